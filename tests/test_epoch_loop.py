"""Steps that cnnlab's epoch loop takes itself, beside the same steps as Lightning takes them."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch

from cnnlab import epoch_loop, process
from cnnlab.epoch_loop import EpochLoop
from cnnlab.plan import make_plan
from cnnlab.training import fit
from commands import settings

QUICK = ("model=simple_cnn", "model.filters=[2,4]", "regularization=dropout", "trainer.max_epochs=2")


class Listening(pl.Callback):
    """Wants to know of each step."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        assert outputs["loss"] > 0


@pytest.fixture
def counted(monkeypatch):
    """The steps that the loop took itself."""
    taken: list[bool] = []
    advance = EpochLoop.advance

    def counting(loop: EpochLoop, data) -> None:
        advance(loop, data)
        taken.append(loop.is_between)

    monkeypatch.setattr(EpochLoop, "advance", counting)
    return taken


def trained(folder, monkeypatch, *overrides: str, plain: bool):
    """Train and return the weights, the loops' counters, the optimizer's state and what the epochs had."""
    if not plain:
        monkeypatch.setattr(epoch_loop, "is_plain", lambda trainer: False)
    process.seed(0)
    plan = make_plan(settings(*QUICK, f"tracking.uri=sqlite:///{folder}/mlflow.db", *overrides), folder)
    epochs = []
    fit(plan, [lambda epoch, metrics: epochs.append({n: v for n, v in metrics.items() if "second" not in n})])
    last = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    return last["state_dict"], last["loops"], last["optimizer_states"], last["lr_schedulers"], epochs


@pytest.mark.parametrize(
    "overrides",
    [
        ("callbacks=last_checkpoint",),
        ("scheduler=cosine", "optimizer=sgd", "trainer.max_epochs=3"),
        ("trainer.precision=bf16-mixed", "regularization.l2=1e-4"),
        ("+trainer.limit_train_batches=5",),
        ("+trainer.max_steps=15", "callbacks=last_checkpoint"),
        ("+trainer.gradient_clip_val=0.1",),
        ("+trainer.accumulate_grad_batches=2",),
    ],
    ids=lambda overrides: overrides[0],
)
def test_everything_is_as_lightning_leaves_it(overrides, tmp_path, monkeypatch, counted):
    mine = trained(tmp_path / "mine", monkeypatch, *overrides, plain=True)
    own = sum(counted)
    theirs = trained(tmp_path / "theirs", monkeypatch, *overrides, plain=False)
    assert sum(counted) == own
    assert (own == 0) == any(word in overrides[0] for word in ("clip", "accumulate"))
    for ours, lightnings in zip(mine, theirs, strict=True):
        torch.testing.assert_close(ours, lightnings, rtol=0, atol=0)


def test_a_callback_of_the_users_hears_of_each_step(tmp_path, counted):
    plan = make_plan(settings(*QUICK, f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"), tmp_path)
    plan.trainer.callbacks.append(Listening())
    fit(plan, [])
    assert counted and not any(counted)
