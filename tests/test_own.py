"""A user's own code, named by `_target_` in their own configuration."""

from __future__ import annotations

import pytest

from cnnlab.errors import UsageError
from cnnlab.plan import make_plan
from cnnlab.training import fit
from commands import settings

CODE = """
import torch
from torch import nn


class Net(nn.Sequential):
    def __init__(self, input_shape, classes, width, conv_dropout, dense_dropout):
        super().__init__(nn.Flatten(), nn.Linear(28 * 28, width))


class Broken(nn.Sequential):
    def __init__(self, input_shape, classes, conv_dropout, dense_dropout):
        super().__init__(nn.Flatten(), nn.Linear(30, classes))


class Pair(Broken):
    def forward(self, images):
        return images, images


class Lazy(nn.Sequential):
    def __init__(self, input_shape, classes, conv_dropout, dense_dropout):
        super().__init__(nn.Flatten(), nn.LazyLinear(classes))


class Alone(nn.Module):
    def __init__(self, classes):
        super().__init__()

    def forward(self, images, labels):
        return images


class Smaller(Alone):
    def forward(self, images, labels):
        return images[:, :, ::2], labels


def no_optimizer(parameters, **arguments):
    return parameters


def __getattr__(name):
    if name == "missing":
        import no_such_thing
    raise AttributeError(name)
"""


OWN = ["~model", "+model.name=mine"]  # without the arguments of the network that ships


@pytest.fixture(autouse=True)
def own_module(tmp_path, monkeypatch):
    (tmp_path / "own_parts.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))


def plan(folder, *overrides: str):
    made = settings("model=dnn", "trainer.max_epochs=3", f"tracking.uri=sqlite:///{folder}/mlflow.db", *overrides)
    return make_plan(made, folder)


def scheduler(target: str, **arguments: object) -> list[str]:
    keys = {"name": "mine", "_target_": target, **arguments}
    return ["~scheduler", *(f"+scheduler.{key}={value}" for key, value in keys.items())]


def rates(folder, *overrides: str) -> list[float]:
    """Return the learning rate after each of three epochs."""
    seen: list[float] = []
    made = plan(folder, *overrides)
    fit(made, [lambda epoch, metrics: seen.append(made.trainer.optimizers[0].param_groups[0]["lr"])])
    return seen


def test_a_schedule_of_torchs_is_stepped_once_an_epoch(tmp_path):
    stepped = scheduler("torch.optim.lr_scheduler.StepLR", step_size=1, gamma=0.1)
    assert rates(tmp_path, *stepped) == pytest.approx([1e-4, 1e-5, 1e-6])


def test_a_schedule_that_waits_for_a_plateau_watches_what_chooses_the_checkpoint(tmp_path):
    waiting = scheduler("torch.optim.lr_scheduler.ReduceLROnPlateau", patience=0, threshold=1e9, factor=0.5)
    # Nothing is better by a relative 1e9: every epoch is a plateau.
    assert rates(tmp_path, *waiting) == pytest.approx([5e-4, 2.5e-4, 1.25e-4])


def test_a_schedule_that_asks_for_the_steps_gets_them_and_takes_them(tmp_path):
    linear = scheduler("torch.optim.lr_scheduler.PolynomialLR", total_iters=10**9)
    assert rates(tmp_path, *linear) == pytest.approx([1e-3] * 3)
    cycle = scheduler("torch.optim.lr_scheduler.OneCycleLR", max_lr=0.001)
    assert rates(tmp_path, *cycle)[-1] < 1e-6


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (scheduler("torch.optim.lr_scheduler.StepLR"), "step_size"),
        (scheduler("torch.optim.lr_scheduler.StepLR", step_size=1, speed=2), "speed"),
        (scheduler("builtins.dict"), "scheduler"),
        (["+optimizer._target_=torch.optim.Adagradd"], "Adagradd"),
        (["+model._target_=no_such_module.Net"], "No module named 'no_such_module'"),
        (
            [*OWN, "+model._target_=own_parts.Net"],
            "model: Net.__init__() missing 1 required positional",
        ),
        (
            [*OWN, "+model._target_=own_parts.Net", "+model.width=5"],
            "answers two images with the shape [2, 5]; it",
        ),
        ([*OWN, "+model._target_=own_parts.Broken"], "model: mat1 and mat2 shapes cannot be multiplied"),
        (
            [*OWN, "+model._target_=own_parts.Pair"],
            "model._target_='own_parts.Pair' answers two images with tuple",
        ),
        (["+model._target_=builtins.dict"], "model._target_='builtins.dict' returns dict; it takes an nn.Module"),
        ([*OWN, "+model._target_=own_parts.missing"], "No module named 'no_such_thing'"),
        (["+optimizer._target_=builtins.list"], "optimizer: list() takes no keyword arguments"),
        (["+optimizer._target_=own_parts.no_optimizer"], "optimizer._target_='own_parts.no_optimizer' is no optimizer"),
        (
            ["+augmentation._target_=own_parts.Alone"],
            "augmentation: it returns Tensor for images [8, 1, 28, 28]",
        ),
        (
            ["+augmentation._target_=own_parts.Smaller"],
            "it returns the shapes [8, 1, 14, 28] and [8] for im",
        ),
        (["+augmentation._target_=own_parts.no_optimizer"], "augmentation: no_optimizer() missing 1 required"),
    ],
)
def test_what_it_cannot_take_is_one_line_before_training(tmp_path, overrides, words):
    with pytest.raises(UsageError) as raised:
        plan(tmp_path, *overrides)
    (line,) = raised.value.problems
    assert words in line and "\n" not in line


def test_a_network_may_find_its_widths_when_it_sees_the_first_images(tmp_path):
    assert fit(plan(tmp_path, *OWN, "+model._target_=own_parts.Lazy", "trainer.max_epochs=1"), []) > 0
