"""The winner, trained again: other seeds, full budget, and the test split once each."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import optuna
from omegaconf import DictConfig

from cnnlab.config import resolve
from cnnlab.plan import make_plan
from cnnlab.run import conclude, start_tags, test_best
from cnnlab.sweep.space import apply
from cnnlab.sweep.study import RESULT, RUN
from cnnlab.sweep.trial import PARENT_TAG, DataInMemory, reason_kept
from cnnlab.tracking.record import record_start
from cnnlab.tracking.run import open_run

SEED = "seed"
LARGEST_SEED = 2**32 - 1
VALUE = "test/acc"


@dataclass(frozen=True)
class Final:
    """Trains the winner's configuration with the seed of each trial of its small study."""

    config: DictConfig
    parent_run: str
    data: DataInMemory
    folder: Path

    def __call__(self, trial: optuna.Trial) -> float:
        """Return the test accuracy of the best checkpoint; all its metrics go to the trial's attributes."""
        with reason_kept(trial):
            return self.run(trial, trial.suggest_int(SEED, 0, LARGEST_SEED))

    def run(self, trial: optuna.Trial, seed: int) -> float:
        name = {"seed": seed, "tracking.run_name": f"winner-seed{seed}", "tracking.system_metrics": False}
        values = resolve(apply(self.config, name))
        folder = self.folder / f"seed{seed}"
        plan = make_plan(values, folder, self.data)
        tags = start_tags(values, plan) | {PARENT_TAG: self.parent_run, "sweep.role": "winner"}
        with open_run(values["tracking"], tags) as run:
            trial.set_user_attr(RUN, run.run_id)
            record_start(run, values, plan.data, plan.batches.sizes)
            plan.logger.sinks.append(run.log_metrics)
            started = time.perf_counter()
            plan.trainer.fit(plan.classifier, plan.batches)
            seconds = time.perf_counter() - started
            result = conclude(run, values, plan, folder, test_best(plan), seconds)
            trial.set_user_attr(RESULT, result.metrics)
        return result.metrics[VALUE]
