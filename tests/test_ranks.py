"""Several processes of one training: the same weights, each its own random numbers, and the same ones every time."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch

from cnnlab import process
from commands import command, environment, run

SPY = """
import pytorch_lightning as pl
import torch
from torch import nn


class Spy(pl.Callback):
    '''Keeps what is random of the first steps: of ones a dropout leaves its mask, of one image a shift its amounts.'''

    def on_train_start(self, trainer, pl_module):
        self.masks, self.shifts = [], []
        ones = lambda module, values: (values[0] * 0 + 1,)  # still of the graph, as DDP wants it
        image = torch.arange(784, dtype=torch.uint8).view(1, 1, 28, 28)
        same = lambda module, values: (image.expand(values[0].shape), values[1])
        for module in pl_module.network.modules():
            if isinstance(module, nn.Dropout):
                module.register_forward_pre_hook(ones)
                module.register_forward_hook(lambda module, values, kept: self.masks.append(kept.detach() != 0))
        pl_module.augmentation.register_forward_pre_hook(same)
        pl_module.augmentation.register_forward_hook(lambda module, values, moved: self.shifts.append(moved[0]))

    def on_train_end(self, trainer, pl_module):
        weights = {name: values.clone() for name, values in pl_module.network.state_dict().items()}
        torch.save([self.masks[:6], self.shifts[:3], weights], f"seen-{trainer.global_rank}.pt")
"""


def seen(folder: Path) -> list[list]:
    """Train on two processes; return masks, shifted images and weights of each."""
    folder.mkdir()
    (folder / "spying.py").write_text(SPY)
    parts = (
        "model=dnn",
        "trainer.max_epochs=1",
        "augmentation=shift",
        "regularization=dropout",
        "figures.enabled=false",
    )
    done = subprocess.run(
        command("train.py", *parts, *WHERE, "tracking.log_model=false", "+callbacks.spy._target_=spying.Spy"),
        cwd=folder,
        env=environment(PYTHONPATH=str(folder)),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"seen-{rank}.pt", weights_only=True) for rank in range(2)]


WHERE = ("trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp")
PLAIN = ("figures.enabled=false", "tracking.log_model=false", "tracking.system_metrics=false", "seed=3")
CONVNET = ("model=convnet", "model.filters=[4,8]", "model.pool_size=2", "model.hidden_units=[]", "scheduler=cosine")


def trained(folder: Path, *overrides: str) -> tuple[dict[str, torch.Tensor], dict[tuple[str, int], float]]:
    """Train; return the weights of the checkpoint, and each metric of each epoch."""
    folder.mkdir()
    done = subprocess.run(
        command("train.py", *PLAIN, *overrides), cwd=folder, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    [run] = client.search_runs(["1"])
    said = done.stdout.splitlines()
    assert sum("epoch 1/2" in line for line in said) == sum(line.startswith("best epoch") for line in said) == 1
    assert len(list(folder.glob("outputs/*/*"))) == 1, "one folder"
    history = {
        (name, each.step): each.value
        for name in run.data.metrics
        for each in client.get_metric_history(run.info.run_id, name)
    }
    [file] = folder.glob("outputs/*/*/checkpoints/epoch*.ckpt")
    return torch.load(file, weights_only=True)["state_dict"], history


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "near"),
    [
        # 1,293 images in steps of 34: shares of 17, and a last step of one image, which one process has alone.
        (
            (*CONVNET, "model.normalization=batch", "regularization=l2", "batch_size=34", "trainer.precision=64-true"),
            1e-9,
        ),
        (("model=dnn", "batch_size=33", "regularization=none"), 1e-5),
    ],
)
def test_two_processes_train_what_one_trains(tmp_path, overrides, near):
    parts = (*overrides, "trainer.max_epochs=2")
    alone, history = trained(tmp_path / "alone", *parts)
    weights, together = trained(tmp_path / "together", *parts, *WHERE)
    assert {name: float((values - weights[name]).abs().max()) for name, values in alone.items()} == pytest.approx(
        dict.fromkeys(alone, 0), abs=near
    )
    timed = ("seconds", "samples_per_second")
    expected = {key: value for key, value in history.items() if not key[0].endswith(timed)}
    assert {key: value for key, value in together.items() if not key[0].endswith(timed)} == pytest.approx(
        expected,
        abs=max(near, 1e-6),  # Lightning tells metrics as float32
    )


def test_a_batch_that_devices_cannot_share_is_refused_before_anything_is_written(tmp_path):
    done = run(tmp_path, "train.py", "batch_size=1", *WHERE)
    assert done.returncode == 2
    assert done.stderr == "error: batch_size=1 cannot be shared among 2 devices; allowed: 2 or more\n"
    assert not list(tmp_path.iterdir())


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> list[bool]:
    """Return which are equal."""
    return [torch.equal(*pair) for pair in zip(a, b, strict=True)]


@pytest.mark.slow
def test_ranks_have_equal_weights_and_their_own_masks_and_augmentations(tmp_path):
    first, again = (seen(tmp_path / name) for name in ("first", "again"))
    for rank in range(2):
        assert len(first[rank][0]) == 6 and len(first[rank][1]) == 3
        assert all(same(first[rank][0], again[rank][0])) and all(same(first[rank][1], again[rank][1])), "repeatable"
    masks, shifts, weights = zip(*first, strict=True)
    assert not any(same(*masks)) and not any(same(*shifts))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_rank_has_its_own_numbers_of_every_generator():
    def drawn(seed: int, rank: int) -> tuple[float, float, float]:
        process.seed_rank(seed, rank)
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    draws = [drawn(seed, rank) for seed in (0, 1) for rank in (0, 1, 2)]
    assert all(len({draw[place] for draw in draws}) == 6 for place in range(3))
    assert drawn(0, 1) == draws[1]
