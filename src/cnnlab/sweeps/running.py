"""A sweep under way, and its workers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from omegaconf import OmegaConf

from cnnlab import process
from cnnlab.console import say
from cnnlab.errors import UsageError
from cnnlab.fused.fitting import at_once
from cnnlab.own_path import written
from cnnlab.settings.sweep import Search, WorkerOrder
from cnnlab.sweeps.dashboard import link_trials
from cnnlab.sweeps.goals import Goals
from cnnlab.sweeps.order import Order
from cnnlab.sweeps.repeat import training_overrides, with_options
from cnnlab.sweeps.storage import StudyLock
from cnnlab.sweeps.study import REASON, requeue_dead
from cnnlab.sweeps.view import View, deadline_line, tally
from cnnlab.sweeps.workers import WorkerPool, WorkersFailed
from cnnlab.tracking.run import TrackedRun
from cnnlab.tracking.store import page_of

POLL = 0.5  # seconds between two looks at the study


@dataclass(frozen=True)
class RunningSweep:
    """A sweep under way: what was ordered, the study, and the MLflow run above its trials."""

    order: Order
    study: optuna.Study
    lock: StudyLock
    parent: TrackedRun
    folder: Path
    new: bool

    def page(self, run_id: str) -> str:
        """Return the address of a run of the sweep in MLflow's pages."""
        told = page_of(self.order.training.tracking.uri, self.parent.experiment_id, run_id)
        return told[told.index("http") :]


def work_order(
    this: RunningSweep,
    study: optuna.Study,
    goals: Goals,
    how: Search | None,
    total: int | None,
    chosen: Mapping[str, object] | None = None,
) -> WorkerOrder:
    """Return the order for the workers of a study; `chosen` values are set in the training configuration."""
    own, configurations = this.order.job.own_folder, this.order.configurations
    chosen = chosen or {}
    options = configurations.options(chosen)
    return WorkerOrder(
        study=study.study_name,
        sweep=this.order.settings,
        goals=goals.names,
        upward=goals.upward,
        total=total,
        search=how,
        config=OmegaConf.to_yaml(configurations.having(chosen)),
        overrides=with_options((*written(own), *training_overrides(this.order.job.overrides)), options),
        choices=dict(configurations.chosen),
        contenders={},
        waits=False,
        chosen=tuple(key for key in chosen if key not in options),
        own_folder=str(own.resolve()) if own else None,
        parent_run=this.parent.run_id,
        folder=str(this.folder / ("trials" if how else "winner")),
        threads=process.available_cores(),
        fused=at_once(this.order.settings.fused, this.order.training) if how else 1,
        since=len(study.get_trials(deepcopy=False)),
    )


def run_workers(this: RunningSweep, study: optuna.Study, lock: StudyLock, order: WorkerOrder) -> None:
    """Run workers on a study and show what they do; raises UsageError where they cannot go on."""
    settings, started = order.sweep, time.monotonic()
    trials = study.get_trials(deepcopy=False)
    total, size = settings.final_seeds, min(settings.n_workers, max(1, settings.final_seeds))
    if order.total is not None:
        total, size = max(order.total, tally(trials)["ended"]), settings.n_workers
    devices = process.visible_devices(this.order.training.trainer.accelerator)
    pool = WorkerPool(order, size, devices, this.folder / "workers")
    try:
        with View(study.study_name, Goals(order.goals, order.upward), total, trials) as view, pool:
            while pool.supervise(ended := view.update(study.get_trials(deepcopy=False))):
                if ended:
                    link_trials(study, this.page)
                if order.search and settings.minutes and time.monotonic() - started >= 60 * settings.minutes:
                    say(deadline_line(settings, study.get_trials(deepcopy=False)))
                    break
                requeue_dead(study, lock, settings.retries)
                time.sleep(POLL)
            view.update(study.get_trials(deepcopy=False))
        link_trials(study, this.page)
    except WorkersFailed as error:
        raise UsageError(f"the sweep stopped, {error}{last_reason(study.get_trials(deepcopy=False))}") from error
    finally:
        requeue_dead(study, lock, None)  # those we stopped ourselves are no failures


def last_reason(trials: Sequence[optuna.trial.FrozenTrial]) -> str:
    """Return why the last trial failed that did, after a colon."""
    reasons = [trial.user_attrs[REASON] for trial in trials if REASON in trial.user_attrs]
    return f": {reasons[-1]}" if reasons else ""
