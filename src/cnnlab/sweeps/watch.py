"""What a trial sees of its training: each epoch, on its way to MLflow and to Optuna."""

from __future__ import annotations

from collections.abc import Mapping

import optuna
import pytorch_lightning as pl

from cnnlab.plan import Plan
from cnnlab.sweeps.goals import Goals
from cnnlab.tracking.run import TrackedRun
from cnnlab.tracking.schema import SEED_PREFIX, VALIDATION, Direction, Metric


class Watch:
    """Follows one training: records each epoch, reports it to Optuna, and stops the trainer of a pruned trial."""

    def __init__(self, plan: Plan, goals: Goals, trial: optuna.Trial | None, run: TrackedRun, index: int):
        self.trainer = plan.trainer
        self.monitor = plan.settings.callbacks.checkpoint.monitor
        self.directions = plan.settings.monitors
        self.goals = goals
        self.trial = trial
        self.run = run
        self.prefix = SEED_PREFIX.format(index) if index else ""
        self.epochs: dict[int, Mapping[str, float]] = {}
        self.costs: dict[str, float] = {}
        self.pruned = False
        self.seconds = 0.0

    @property
    def last_epoch(self) -> int:
        return max(self.epochs)

    @property
    def last(self) -> Mapping[str, float]:
        """The metrics of the last epoch."""
        return self.epochs[self.last_epoch]

    def see(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record an epoch and report it."""
        self.run.log_epoch(epoch, {f"{self.prefix}{name}": value for name, value in metrics.items()})
        self.epochs[epoch] = dict(metrics)
        if self.trial is not None and not self.pruned and self.goals.metric in metrics:
            self.trial.report(metrics[self.goals.metric], epoch)

    def __call__(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self.see(epoch, metrics)
        self.judge(epoch, metrics)

    def judge(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Stop the trainer where Optuna prunes the trial after an epoch that was seen."""
        if self.trial is None or self.pruned or self.goals.metric not in metrics:
            return
        # After the last epoch the whole cost is paid: the value is worth more than the verdict.
        if not is_last(epoch, self.trainer) and self.trial.should_prune():
            self.pruned = True
            self.trainer.should_stop = True

    def kept(self) -> dict[str, float]:
        """Return the metrics of the epoch whose checkpoint a run would keep, the costs, and what it took."""
        epochs = [epoch for epoch, metrics in self.epochs.items() if self.monitor is None or self.monitor in metrics]
        best = max(epochs)
        if self.monitor is not None:
            best = best_epoch(self.epochs, epochs, self.monitor, self.directions[self.monitor])
        metrics = {name: value for name, value in self.epochs[best].items() if name.startswith(VALIDATION)}
        took = {Metric.BEST_EPOCH: best, Metric.EPOCHS: self.last_epoch, Metric.TRAINING_SECONDS: self.seconds}
        return metrics | self.costs | {str(name): float(value) for name, value in took.items()}


def is_last(epoch: int, trainer: pl.Trainer) -> bool:
    """Return whether training ends after this epoch, counted from 1: as planned, or stopped early.

    Lightning's early stopping has decided by the time that an epoch is told.
    """
    enough = epoch >= (trainer.min_epochs or 0) and trainer.global_step >= (trainer.min_steps or 0)
    out_of_steps = 0 <= trainer.max_steps <= trainer.global_step
    return epoch == trainer.max_epochs or out_of_steps or (trainer.should_stop and enough)


def best_epoch(metrics: Mapping[int, Mapping[str, float]], epochs: list[int], monitor: str, better: Direction) -> int:
    """Return the epoch with the best value of the monitor, the first of equals, as a checkpoint keeps it."""
    sign = 1 if better == "min" else -1
    return min(epochs, key=lambda epoch: (sign * metrics[epoch][monitor], epoch))
