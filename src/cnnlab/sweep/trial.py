"""One trial: a training with other values, watched epoch by epoch."""

from __future__ import annotations

import gc
import json
import math
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from cnnlab.config import flatten, resolve
from cnnlab.data import load
from cnnlab.data.images import ImageData
from cnnlab.errors import DiskFull, disk_is_full
from cnnlab.metrics import monitors
from cnnlab.plan import Plan, make_plan
from cnnlab.sweep.goals import Goals, cost
from cnnlab.sweep.space import Parameter, Space, apply
from cnnlab.sweep.study import DUPLICATE, REASON, RESULT, RUN
from cnnlab.tracking.run import TrackedRun, open_run

PARENT_TAG = "mlflow.parentRunId"


class Diverged(Exception):
    """The loss is no longer a number."""


class DataInMemory:
    """Loads each dataset once and keeps it; without its test split, unless `test` says otherwise."""

    def __init__(self, *, test: bool):
        self.test = test
        self.loaded: dict[str, ImageData] = {}

    def __call__(self, dataset: Mapping[str, Any]) -> ImageData:
        key = json.dumps({name: value for name, value in dataset.items() if name != "scaling"}, sort_keys=True)
        if key not in self.loaded:
            data = load(dataset)
            if not self.test:
                data = replace(data, test_images=data.test_images[:0], test_labels=data.test_labels[:0])
            self.loaded[key] = data
        return self.loaded[key]


@dataclass(frozen=True)
class Task:
    """What all trials of a worker have in common."""

    config: DictConfig
    space: Space
    goals: Goals
    seeds: int
    parent_run: str
    data: DataInMemory
    folder: Path

    def __call__(self, trial: optuna.Trial) -> float | list[float]:
        """Train as Optuna suggests and return the value, or the two values, of the trial.

        Raises TrialPruned after an orderly end; any other exception is the trial's failure, with its reason kept.
        """
        try:
            with reason_kept(trial):
                return self.run(trial)
        finally:
            gc.collect()  # networks and trainers refer to each other; a GPU needs their memory now
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def run(self, trial: optuna.Trial) -> float | list[float]:
        stored = {parameter.key: suggest(trial, parameter) for parameter in self.space}
        name = {"tracking.run_name": f"trial-{trial.number}", "tracking.system_metrics": False}
        config = apply(self.config, self.space.values(stored) | name)
        values = resolve(config)
        twin = find_twin(trial, stored)
        tags = {PARENT_TAG: self.parent_run, "trial.number": str(trial.number)}
        with open_run(values["tracking"], tags) as run:
            trial.set_user_attr(RUN, run.run_id)
            run.log_parameters(flatten(values))
            if twin is not None:
                return self.repeat(trial, twin, run)
            trainings: list[Watch] = []
            for index in range(self.seeds):
                seeded = resolve(apply(config, {"seed": values["seed"] + index}))
                trainings.append(self.train(trial, seeded, index, run))
                if trainings[0].pruned:
                    break
            pruned = trainings[0].pruned
            results = [training.kept() for training in trainings]
            measured = {name: statistics.fmean(result[name] for result in results) for name in results[0]}
            achieved = [measured[name] for name in self.goals.names]
            run.log_metrics(round(measured["best_epoch"]), {f"trial/{name}": value for name, value in measured.items()})
            run.set_tags({"trial.state": "pruned" if pruned else "complete"})
            spread = {"seeds": [result[self.goals.metric] for result in results]} if len(results) > 1 else {}
            trial.set_user_attr(RESULT, measured | spread)
        if pruned:
            raise optuna.TrialPruned(f"after epoch {trainings[0].last_epoch}")
        return achieved[0] if self.goals.single else achieved

    def train(self, trial: optuna.Trial, values: Mapping[str, Any], index: int, run: TrackedRun) -> Watch:
        """Fit one network and return what was seen; nothing is written to disk, since no trial is used again."""
        plan = make_plan(values, self.folder, self.data)
        callbacks: list[pl.Callback] = plan.trainer.callbacks  # type: ignore[attr-defined]
        callbacks.remove(plan.checkpoint)
        watch = Watch(plan, self.goals, trial if index == 0 and self.goals.single else None, run, index)
        plan.logger.sinks.append(watch)
        watch.started = time.perf_counter()
        plan.trainer.fit(plan.classifier, plan.batches)
        watch.seconds = time.perf_counter() - watch.started
        for name in self.goals.names[1:]:
            watch.costs[name] = cost(name, plan.classifier.network, plan.data.input_shape)
        return watch

    def repeat(self, trial: optuna.Trial, twin: FrozenTrial, run: TrackedRun) -> float | list[float]:
        """End as the finished trial with the same parameters did, without training."""
        state = "pruned" if twin.state == TrialState.PRUNED else "complete"
        run.set_tags({"trial.state": state, "trial.duplicate_of": str(twin.number)})
        trial.set_user_attr(DUPLICATE, twin.number)
        trial.set_user_attr(RESULT, twin.user_attrs.get(RESULT, {}))
        for epoch, value in twin.intermediate_values.items():
            trial.report(value, epoch)
        if state == "pruned":
            raise optuna.TrialPruned
        return twin.values


class Watch:
    """Follows one training: records each epoch, reports it to Optuna, and stops the trainer of a pruned trial."""

    def __init__(self, plan: Plan, goals: Goals, trial: optuna.Trial | None, run: TrackedRun, index: int):
        self.trainer = plan.trainer
        self.monitor = plan.checkpoint.monitor
        self.goals = goals
        self.trial = trial
        self.run = run
        self.prefix = f"seed_{index}/" if index else ""
        self.epochs: dict[int, Mapping[str, float]] = {}
        self.costs: dict[str, float] = {}
        self.pruned = False
        self.started = self.seconds = 0.0

    @property
    def last_epoch(self) -> int:
        return max(self.epochs)

    def __call__(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self.run.log_metrics(epoch, {f"{self.prefix}{name}": value for name, value in metrics.items()})
        for name in ("train/loss", "val/loss"):
            if not math.isfinite(metrics.get(name, 0.0)):
                raise Diverged(f"{name} is {metrics[name]:g} in epoch {epoch}")
        self.epochs[epoch] = dict(metrics)
        if self.trial is None or self.pruned or self.goals.metric not in metrics:
            return
        self.trial.report(metrics[self.goals.metric], epoch)
        # After the last epoch the whole cost is paid: the value is worth more than the verdict.
        if epoch != self.trainer.max_epochs and self.trial.should_prune():
            self.pruned = True
            self.trainer.should_stop = True

    def kept(self) -> dict[str, float]:
        """Return the metrics of the epoch whose checkpoint a run would keep, the costs, and what it took."""
        epochs = [epoch for epoch, metrics in self.epochs.items() if self.monitor is None or self.monitor in metrics]
        best = max(epochs)
        if (monitor := self.monitor) is not None:
            sign = 1 if monitors()[monitor] == "min" else -1
            best = min(epochs, key=lambda epoch: (sign * self.epochs[epoch][monitor], epoch))
        metrics = {name: value for name, value in self.epochs[best].items() if name.startswith("val/")}
        took = {"best_epoch": float(best), "epochs": float(self.last_epoch), "training_seconds": self.seconds}
        return metrics | self.costs | took


@contextmanager
def reason_kept(trial: optuna.Trial) -> Iterator[None]:
    """Keep with the trial why it failed; raises DiskFull instead where that is why, which is no fault of the trial."""
    try:
        yield
    except optuna.TrialPruned:
        raise
    except Exception as error:
        if disk_is_full(error):
            raise DiskFull from error
        trial.set_user_attr(REASON, describe(error))
        raise


def suggest(trial: optuna.Trial, parameter: Parameter) -> Any:
    """Return Optuna's suggestion for a parameter, as Optuna stores it."""
    distribution = parameter.distribution
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(parameter.key, distribution.choices)
    if isinstance(distribution, IntDistribution):
        low, high, step = distribution.low, distribution.high, distribution.step
        return trial.suggest_int(parameter.key, low, high, step=step, log=distribution.log)
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(
        parameter.key, distribution.low, distribution.high, step=distribution.step, log=distribution.log
    )


def find_twin(trial: optuna.Trial, stored: Mapping[str, Any]) -> FrozenTrial | None:
    """Return a finished trial with the same parameters, one that was not pruned if there is any."""
    for state in (TrialState.COMPLETE, TrialState.PRUNED):
        for other in trial.study.get_trials(deepcopy=False, states=(state,)):
            if other.params == stored:
                return other
    return None


def describe(error: BaseException) -> str:
    """Return an error as one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
