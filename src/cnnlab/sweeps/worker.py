"""A worker process: takes one trial after the other until the study is complete."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cnnlab import lean, process
from cnnlab.errors import DatabaseHeld, DiskFull, disk_is_full
from cnnlab.own_path import add_to_path
from cnnlab.signals import Interruption, interruptible

if TYPE_CHECKING:
    import optuna
    from omegaconf import DictConfig

    from cnnlab.settings.sweep import WorkerOrder
    from cnnlab.sweeps.promotion import Promotion
    from cnnlab.sweeps.storage import StudyLock
    from cnnlab.sweeps.together import Conductor

# Exit codes that tell the launch not to start another worker.
HOPELESS = 3  # every trial fails
DISK_FULL = 4
POLL = 1.0  # seconds between two looks at a study whose last trials run elsewhere


def main() -> None:
    """Read the order from stdin (it may hold a password, so it is no argument) and work on it."""
    text = sys.stdin.read()
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    process.set_environment()
    from cnnlab.settings.sweep import WorkerOrder

    try:
        with interruptible():
            sys.exit(work(WorkerOrder.model_validate_json(text)))
    except Interruption as interruption:
        sys.exit(interruption.exit_code)
    except DatabaseHeld as error:  # its trial is queued again, and another worker started
        sys.exit(f"error: {error}")
    except (Exception, DiskFull) as error:
        if not disk_is_full(error):
            raise
        sys.exit(DISK_FULL)


def work(order: WorkerOrder) -> int:
    """Run trials until none is left; return the exit code."""
    own_folder = Path(order.own_folder) if order.own_folder else None
    add_to_path(own_folder)
    texts = [order.config, *order.overrides, *(side.model_dump_json() for side in order.contenders.values())]
    if own_folder is None and not any(lean.TARGET in text for text in texts):
        lean.import_libraries()
    process.begin(order.threads)
    process.begin_search()
    import mlflow
    from omegaconf import OmegaConf

    from cnnlab.sweeps.contest import Contest
    from cnnlab.sweeps.goals import Goals
    from cnnlab.sweeps.grammar import read_space
    from cnnlab.sweeps.limits import Limits
    from cnnlab.sweeps.methods import WILCOXON, build_pruner, build_sampler
    from cnnlab.sweeps.promotion import promotion
    from cnnlab.sweeps.setup import DatasetCache, Setup
    from cnnlab.sweeps.study import open_study
    from cnnlab.sweeps.together import Conductor
    from cnnlab.sweeps.trial import Task
    from cnnlab.sweeps.winner import Winner

    config = _configuration(order.config)
    mlflow.set_tracking_uri(OmegaConf.select(config, "tracking.uri"))
    goals = Goals(order.goals, order.upward)
    data = DatasetCache(test=order.search is None)
    place = order.parent_run, data, Path(order.folder)
    setup = Setup(config, order.overrides, *place, own_folder=own_folder, chosen=order.choices)
    sampler = pruner = promoted = None
    task: Callable[[optuna.Trial], float | list[float]] = Winner(setup, order.chosen)
    if order.contenders:
        task = Contest(
            {
                side: replace(setup, config=_configuration(each.config), overrides=each.overrides)
                for side, each in order.contenders.items()
            },
            {side: each.experiment for side, each in order.contenders.items()},
            order.sweep.folds,
        )
    if order.search is not None:
        space = read_space(order.search.space, setup.configurations)
        limits = Limits(order.sweep.constraints.limits)
        sampler = build_sampler(order.search.sampler, space, goals, constrained=bool(limits.most))
        pruner = build_pruner(order.search.pruner)
        promoted = promotion(order.search.pruner)
        if order.search.reseed:
            sampler.reseed_rng()
        trainings = config.dataset.validation.folds if order.sweep.folds else order.sweep.seeds
        how = order.search.pruner.target == WILCOXON, order.sweep.folds
        task = Task(setup, space, goals, trainings, limits, *how)
    study, lock = open_study(order.sweep, order.study, goals.directions, sampler, pruner)
    conductor = None
    if isinstance(task, Task) and order.fused > 1:
        conductor = Conductor(study, lock, task, order, promoted)
    gc.freeze()  # the imports stay for good: collecting what a trial leaves need not walk through them
    return drain(study, lock, task, order, promoted, conductor)


def _configuration(text: str) -> DictConfig:
    from omegaconf import DictConfig, OmegaConf

    config = OmegaConf.create(text)
    assert isinstance(config, DictConfig)
    return config


def drain(
    study: optuna.Study,
    lock: StudyLock,
    task: Callable[[optuna.Trial], float | list[float]],
    order: WorkerOrder,
    promoted: Promotion | None = None,
    conductor: Conductor | None = None,
) -> int:
    """Take one trial after the other until the study has its total and none is running; return the exit code.

    Pruned trials that are `promoted` go before new ones. A `conductor` takes several at once.
    """
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.trial import TrialState

    from cnnlab.sweeps.study import offered

    while True:
        if hopeless(study, order.since, order.sweep.stop_after_failures):
            return HOPELESS
        if conductor is not None and conductor.take():
            continue
        taken = Taken(task)
        try:
            with offered(study, lock, order.total, promoted) as waiting:
                if waiting:
                    study.optimize(taken, n_trials=1, catch=(Exception,))
        except (UpdateFinishedTrialError, ValueError) as error:
            # The machine slept, others took this trial for dead, and it counts elsewhere now. Any other ValueError is a
            # sampler's, and would come again for ever.
            if not taken.lost:
                raise
            print(f"trial {taken.number} was taken over by another worker: {error}", file=sys.stderr)
        if waiting:
            continue
        if not order.waits and not study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            return 0
        time.sleep(POLL)  # one of those that run elsewhere may die and be queued again


class Taken:
    """Runs a task on the trial a worker takes, and sees whether the trial was ended by others meanwhile."""

    def __init__(self, task: Callable[[optuna.Trial], float | list[float]]):
        self.task = task
        self.number: int | None = None
        self.lost = False

    def __call__(self, trial: optuna.Trial) -> float | list[float]:
        self.number = trial.number
        try:
            return self.task(trial)
        finally:
            self.lost = trial.study.get_trials(deepcopy=False)[trial.number].state.is_finished()


def hopeless(study: optuna.Study, since: int, limit: int) -> bool:
    """Return whether `limit` trials from number `since` on ended, and every one of them failed."""
    from optuna.trial import TrialState

    from cnnlab.sweeps.study import REASON

    ended = [trial for trial in study.get_trials(deepcopy=False)[since:] if trial.state.is_finished()]
    failed = [trial for trial in ended if trial.state == TrialState.FAIL and REASON in trial.user_attrs]
    return len(failed) >= limit and len(failed) == len(ended)


def _end_with(parent: int) -> None:
    """Stop this process when its launch is gone: nobody would start its successor or write the summary."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
