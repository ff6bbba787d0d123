"""The objective by hand, and the epoch's sums however the images were batched and shared."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from cnnlab import process
from cnnlab.classifier import Classifier
from cnnlab.data.scaling import Scaling
from cnnlab.metrics import EpochSums
from cnnlab.plan import make_plan
from cnnlab.training import fit
from commands import settings

PLAIN = settings("regularization=none").regularization


def classifier(**regularization) -> Classifier:
    """Two pixels, two classes, known weights: logits are (x0, -2 * x1)."""
    dense = nn.Linear(2, 2)
    with torch.no_grad():
        dense.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -2.0]]))
        dense.bias.copy_(torch.tensor([0.0, 0.0]))
    network = nn.Sequential(nn.Flatten(), dense)
    return Classifier(Scaling(1), network, PLAIN.model_copy(update=regularization), torch.optim.SGD, None, {})


# One image (1, 1) of class 0: logits (1, -2), so p0 = 1 / (1 + e^-3) and the cross-entropy is log(1 + e^-3).
BATCH = (torch.ones(1, 1, 1, 2, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
CROSS_ENTROPY = math.log(1 + math.exp(-3))


@pytest.mark.parametrize(
    ("regularization", "expected"),
    [
        ({}, CROSS_ENTROPY),
        ({"l2": 0.1}, CROSS_ENTROPY + 0.1 * (1 + 4)),
        ({"l1": 0.1}, CROSS_ENTROPY + 0.1 * (1 + 2)),
        ({"l2": 0.1, "l1": 0.1}, CROSS_ENTROPY + 0.8),
        # Smoothing 0.2 over two classes: 0.9 of the cross-entropy of class 0, 0.1 of that of class 1, which is 3 more.
        ({"label_smoothing": 0.2}, CROSS_ENTROPY + 0.1 * 3),
    ],
)
def test_objective_and_plain_loss(regularization, expected):
    module = classifier(**regularization)
    assert float(module.objective("val", BATCH).detach()) == pytest.approx(expected, rel=1e-5)
    measured = module.sums("val").compute()
    assert float(measured["loss"]) == pytest.approx(CROSS_ENTROPY, rel=1e-5), "the loss is free of penalties"
    assert float(measured["objective"]) == pytest.approx(expected, rel=1e-5)
    assert float(measured["acc"]) == 1


def test_penalty_spares_biases():
    module = classifier(l2=1.0)
    with torch.no_grad():
        module.network[1].bias.fill_(100.0)
    assert float(module.penalty().detach()) == pytest.approx(5)


def test_sums_weigh_images_not_batches():
    sums = EpochSums()
    logits = torch.tensor([[2.0, 0.0]])
    sums.update(torch.tensor(1.0), torch.tensor(1.5), logits.repeat(3, 1), torch.tensor([0, 0, 1]))
    sums.update(torch.tensor(5.0), torch.tensor(5.5), logits, torch.tensor([1]))
    measured = {name: float(value) for name, value in sums.compute().items()}
    assert measured == {"loss": 2.0, "objective": 2.5, "acc": 0.5}


@pytest.mark.parametrize("scheduler", ["none", "cosine", "onecycle", "each_epoch"])
def test_the_logged_rate_is_that_of_the_epochs_last_step(tmp_path, scheduler):
    chosen = f"scheduler={scheduler}"
    if scheduler == "each_epoch":
        chosen = "++scheduler={name: halved, _target_: torch.optim.lr_scheduler.StepLR, step_size: 1, gamma: 0.5}"
    quick = ("model=dnn", "trainer.max_epochs=2", f"tracking.uri=sqlite:///{tmp_path}/mlflow.db")
    plan = make_plan(settings(chosen, *quick), tmp_path)
    used: list[float] = []
    make = plan.classifier.make_optimizer

    def spied(parameters):
        optimizer = make(parameters)
        optimizer.register_step_post_hook(lambda *_: used.append(optimizer.param_groups[0]["lr"]))
        return optimizer

    plan.classifier.make_optimizer = spied
    rates: list[float] = []
    fit(plan, [lambda epoch, metrics: rates.append(metrics["learning_rate"])])
    steps = len(used) // 2
    assert rates == pytest.approx([used[steps - 1], used[-1]], rel=1e-6)
    ends = {"none": (0.001, 0.001), "each_epoch": (0.001, 0.0005)}
    if scheduler in ends:
        assert rates == pytest.approx(ends[scheduler])
    else:
        assert 0 < rates[1] < 0.001 / steps < rates[0] < 0.001


def test_training_flushes_numbers_too_small_for_the_processor():
    process.begin()
    assert not (torch.full((8,), 1e-30) * 1e-10).any()
