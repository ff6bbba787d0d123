"""What watches a training: Lightning's callbacks and loggers, cnnlab's and a user's own."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, WeightAveraging
from pytorch_lightning.loggers.logger import Logger
from torch.optim.swa_utils import get_ema_avg_fn, get_ema_multi_avg_fn

from cnnlab import process
from cnnlab.console import EpochBar, EpochCount, console, in_notebook
from cnnlab.errors import UsageError, collect, one_line
from cnnlab.hooks import at_epochs_end, without_idle
from cnnlab.last_checkpoint import LAST, LastCheckpoint
from cnnlab.own import made
from cnnlab.settings.base import Called
from cnnlab.settings.commands import Training, unknown_monitor
from cnnlab.settings.training import Loggers
from cnnlab.tracking.schema import Metric

# What cnnlab and Lightning log beside the monitors; a callback of the user's own may watch it.
LOGGED = (Metric.EPOCH, Metric.EPOCH_SECONDS, Metric.SPEED, Metric.LEARNING_RATE, "step")

# What Lightning calls precisions that convert the weights themselves.
TRUE_HALF, TRUE_DOUBLE = ("bf16-true", "16-true"), ("64", "64-true")


@dataclass(frozen=True)
class Watching:
    """The callbacks of a training, in their order; `best` and `last` are those that write checkpoints."""

    best: ModelCheckpoint
    last: LastCheckpoint
    callbacks: list[pl.Callback]


def build_callbacks(settings: Training, folder: Path) -> Watching:
    """Return those that write checkpoints, those that watch a metric and, on a terminal, the bar.

    The user's own come before those that watch, so that what they log is there. Raises UsageError for those that cannot
    be made.
    """
    watching = settings.callbacks
    problems: list[str] = []
    made_of = {key: collect(problems, own_callback, f"callbacks.{key}", item) for key, item in watching.own.items()}
    added = {key: callback for key, callback in made_of.items() if callback}
    problems = problems or unknown_monitors(settings, added)  # one that was not made may be the one that logs
    if problems:
        raise UsageError(*problems)
    monitor = watching.checkpoint.monitor
    has_validation = settings.dataset.validation.held_out
    named_loss = "val_loss_{val/loss:.4f}" if has_validation else "train_loss_{train/loss:.4f}"
    checkpoint = ModelCheckpoint(
        dirpath=folder / "checkpoints",
        filename=f"epoch_{{epoch:02d}}-{named_loss}",  # no "=": a command line would have to quote it
        auto_insert_metric_name=False,
        monitor=monitor,
        mode=settings.monitors[monitor] if monitor else "min",
        save_on_train_epoch_end=True,
    )
    last = LastCheckpoint(folder / "checkpoints" / LAST)
    random = OwnRandomNumbers(settings.seed)
    callbacks = [without_idle(last), without_idle(random), *added.values(), at_epochs_end(checkpoint)]
    if watching.ema_decay is not None:
        callbacks.append(averaging(watching.ema_decay, str(settings.trainer.precision)))
    if console.is_terminal:
        callbacks.append(EpochBar())
    elif in_notebook():
        callbacks.append(EpochCount())
    if stopping := watching.early_stopping:
        mode = settings.monitors[stopping.monitor]
        callbacks.append(without_idle(EarlyStopping(stopping.monitor, patience=stopping.patience, mode=mode)))
    return Watching(checkpoint, last, callbacks)


def check_steps(settings: Training, batches: int) -> None:
    """Raise UsageError for a training that ends within its first epoch, before there is what its callbacks watch."""
    flags, watching = settings.trainer.flags, settings.callbacks
    limit, most = flags.get("limit_train_batches"), flags.get("max_steps")
    if isinstance(limit, float):
        batches = int(batches * limit)
    elif isinstance(limit, int):
        batches = min(batches, limit)
    together = flags.get("accumulate_grad_batches", 1)
    assert isinstance(together, int)
    steps = -(-batches // together)
    watched = watching.checkpoint.monitor or watching.early_stopping
    if isinstance(most, int) and 0 <= most < steps and watched:
        raise UsageError(
            f"trainer.max_steps={most} ends the training within its first epoch, before validation, which callbacks "
            f"watch; allowed: {steps}, the steps of an epoch, or more, or callbacks=last_checkpoint"
        )


class OwnRandomNumbers(pl.Callback):
    """Gives each process of a training its own dropout masks and augmentations.

    Weights are drawn by then, alike everywhere. The first process goes on with the numbers it has.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_rank > 0:
            process.seed_rank(self.seed, trainer.global_rank)


class DoubleAveraging(WeightAveraging):
    """Averages weights in float64; Lightning makes its copy of them before it converts them."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:
            self._average_model.double()


def averaging(decay: float, precision: str) -> WeightAveraging:
    """Return the callback that keeps a moving average of the weights.

    Of weights in half precision it is in float32, where a step of 1 - decay is not lost in rounding: for that the
    weights are averaged one by one, which takes both types.
    """
    if precision in TRUE_DOUBLE:
        return DoubleAveraging(multi_avg_fn=get_ema_multi_avg_fn(decay))
    if precision in TRUE_HALF:
        return WeightAveraging(avg_fn=get_ema_avg_fn(decay))
    return WeightAveraging(multi_avg_fn=get_ema_multi_avg_fn(decay))


def own_callback(key: str, settings: Called) -> pl.Callback:
    """Return a callback of the user's own; raises UsageError for one that is none, or has a state no checkpoint keeps.

    Checkpoints hold the callbacks' states and are loaded with `weights_only=True`.
    """
    callback = made(key, settings, pl.Callback, "a Lightning Callback")
    file = io.BytesIO()
    try:
        torch.save(callback.state_dict(), file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception as error:
        raise UsageError(
            f"{key}: its state_dict cannot be kept in a checkpoint, which takes numbers, texts, lists, dicts and "
            f"tensors: {one_line(error)}"
        ) from error
    return callback


def unknown_monitors(settings: Training, added: Mapping[str, pl.Callback]) -> list[str]:
    """Return a line for each of the user's own that watches what this training does not log.

    What callbacks of other classes log cannot be known: beside one of them anything may be watched.
    """
    if any(type(callback) not in (EarlyStopping, ModelCheckpoint) for callback in added.values()):
        return []
    return [
        unknown_monitor(f"callbacks.{key}.monitor", monitor, settings.monitors)
        for key, callback in added.items()
        if (monitor := getattr(callback, "monitor", None)) is not None and monitor not in {*settings.monitors, *LOGGED}
    ]


def build_loggers(settings: Loggers) -> list[Logger]:
    """Return the loggers beside the tracked run; raises UsageError for those that cannot be made."""
    problems: list[str] = []
    found = [
        collect(problems, made, f"loggers.{key}", item, Logger, "a Lightning Logger")
        for key, item in settings.own.items()
    ]
    if problems:
        raise UsageError(*problems)
    return [logger for logger in found if isinstance(logger, Logger)]
