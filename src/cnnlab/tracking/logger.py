"""Lightning's logger interface, one whole epoch at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from pytorch_lightning.loggers.logger import Logger

from cnnlab.tracking.schema import Metric

EpochSink = Callable[[int, Mapping[str, float]], None]


class EpochLogger(Logger):
    """Gathers what Lightning logs of an epoch and hands it on once, in one piece.

    The classifier logs validation and training together, but callbacks may log more before; a record that holds all is
    one database call, and one line on the screen. `sinks` are called with the epoch, counted from 1, and its metrics;
    `agree` afterwards, in every process of a training: the first one may have been told to stop.
    """

    def __init__(self, sinks: list[EpochSink], folder: Path | None = None):
        super().__init__()
        self.sinks = sinks
        self.folder = folder
        self.gathered: dict[str, float] = {}
        self.agree: Callable[[], None] = lambda: None

    @property
    def name(self) -> str:
        return "cnnlab"

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str | None:
        """Where callbacks of the user's own write that name no folder: the run's."""
        return str(self.folder) if self.folder else None

    def log_hyperparams(self, *arguments: object, **keywords: object) -> None:
        """Nothing: the run keeps the whole configuration already."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if Metric.TEST_LOSS in metrics:  # the test split is no part of an epoch; the run measures it at the end
            return
        self.gathered.update(metrics)
        if Metric.TRAIN_LOSS not in metrics:
            return
        epoch = int(self.gathered.pop(Metric.EPOCH))
        for sink in self.sinks:
            sink(epoch, self.gathered)
        self.agree()
        self.gathered = {}
