"""Lightning's hooks around a training step that do nothing: not called, they cost nothing."""

from __future__ import annotations

from typing import TypeVar

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint

# Of training alone: of validation's and the test's Lightning reads what arguments they take.
HOOKS = (
    *("on_train_batch_start", "on_train_batch_end", "on_before_zero_grad", "on_before_backward", "on_after_backward"),
    "on_before_optimizer_step",
)
Hooked = TypeVar("Hooked", bound=pl.Callback | pl.LightningModule)


def without_idle(hooked: Hooked, *also: str) -> Hooked:
    """Return a callback or a module whose step's hooks are None where they are Lightning's own; `also` names others.

    Lightning calls what can be called, and before each callback's hook writes the callback's name and settings: some
    dozens of calls a step, a tenth of a small network's.
    """
    for name in HOOKS:
        if name in also or is_idle(hooked, name):
            object.__setattr__(hooked, name, None)
    return hooked


def is_idle(hooked: pl.Callback | pl.LightningModule, name: str) -> bool:
    """Return whether a hook does nothing: it is Lightning's own, or was taken away."""
    lightnings = pl.Callback if isinstance(hooked, pl.Callback) else pl.LightningModule
    return getattr(hooked, name) is None or getattr(type(hooked), name) is getattr(lightnings, name)


def at_epochs_end(checkpoint: ModelCheckpoint) -> ModelCheckpoint:
    """Return a checkpoint callback that writes at the end of epochs alone without its hook after each step."""
    return without_idle(checkpoint, "on_train_batch_end")
