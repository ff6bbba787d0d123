"""What the processes of one training know of each other."""

from __future__ import annotations

import os
import signal
import socket

import psutil
import pytorch_lightning as pl
import torch.distributed

from cnnlab.signals import SIGNALS

First = tuple[str, str, int]  # the MLflow run, and the host and the number of the process that has it


def first_here(run_id: str) -> First:
    """Return what the others are told by the process that has the run."""
    return run_id, socket.gethostname(), os.getpid()


def is_gone(first: First) -> bool | None:
    """Return whether the first process is gone; None where it is another machine's."""
    _, host, process = first
    if host != socket.gethostname():
        return None
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Contact(pl.Callback):
    """Tells every process which one has the run, and notes when another one is not there any more.

    `first` is given in the first process alone. Signals stay as they are: Lightning's own handler of SIGTERM sends a
    message to processes that may be in the middle of another, and waits for ever.
    """

    def __init__(self, first: First | None) -> None:
        self.first = first
        self.lost = False
        self.handlers: dict[int, object] = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.handlers = {number: signal.getsignal(number) for number in SIGNALS}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.first = trainer.strategy.broadcast(self.first)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.keep_handlers()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.keep_handlers()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.keep_handlers()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        # gloo raises a plain RuntimeError.
        broken = isinstance(exception, RuntimeError) and "gloo" in str(exception)
        self.lost = broken or isinstance(exception, torch.distributed.DistError)

    def keep_handlers(self) -> None:
        """Take back what Lightning has made of the signals."""
        for number, handler in self.handlers.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)  # type: ignore[arg-type]
