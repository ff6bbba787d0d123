"""The gate as a callback of Lightning's: an epoch lasts until the next one may begin, without its validation."""

from __future__ import annotations

import pytorch_lightning as pl
import torch

from benchmarks.gate import Gate

NAMES = {"objective": ("train/objective", "train/loss"), "accuracy": ("train/acc",)}


class WaitForTurn(pl.Callback):
    """Waits before each epoch, and tells of the one before it."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.gate = Gate(lightning=pl.__version__, torch=torch.__version__)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.gate.running:
            logged = trainer.callback_metrics
            self.gate.end(**{key: next(logged[it] for it in names if it in logged) for key, names in NAMES.items()})
        self.gate.begin()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.gate.pause()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.gate.go_on()
