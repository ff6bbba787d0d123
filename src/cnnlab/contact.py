"""What the processes of one training know of each other."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field

import pytorch_lightning as pl
import torch.distributed

from cnnlab.living import is_dead, machine, this_process
from cnnlab.signals import numbers

GONE = "the first process of this training (pid {} on {}) is gone"


@dataclass(frozen=True)
class First:
    """The process that has the run: `process` tells it from any other."""

    run_id: str
    process: str = field(default_factory=this_process)

    @property
    def is_gone(self) -> bool:
        """Whether it is known to be dead."""
        return is_dead(self.process)

    @property
    def is_elsewhere(self) -> bool:
        """Whether it is another machine's, where nobody here sees how it fares."""
        return self.process.rsplit(" ", 2)[0] != machine()

    @property
    def obituary(self) -> str:
        where, number, _ = self.process.rsplit(" ", 2)
        return GONE.format(number, where.split("/")[0])


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
        self.handlers = {number: signal.getsignal(number) for number in numbers()}

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
