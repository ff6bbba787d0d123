"""A worker process: takes one trial after the other until the study is complete."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

from cnnlab.errors import DiskFull, disk_is_full
from cnnlab.interruption import Interruption, interruptible

# Exit codes that tell the launch not to start another worker.
HOPELESS = 3  # every trial fails
DISK_FULL = 4
POLL = 1.0  # seconds between two looks at a study whose last trials run elsewhere


def main() -> None:
    """Read the order from stdin (it may hold a password, so it is no argument) and work on it."""
    order = json.load(sys.stdin)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        with interruptible():
            sys.exit(work(order))
    except Interruption as interruption:
        sys.exit(interruption.exit_code)
    except (Exception, DiskFull) as error:
        if not disk_is_full(error):
            raise
        sys.exit(DISK_FULL)


def work(order: dict[str, Any]) -> int:
    """Run trials until none is left; return the exit code."""
    import mlflow
    import optuna
    import torch
    from omegaconf import OmegaConf

    from cnnlab.sweep.goals import Goals
    from cnnlab.sweep.methods import build_pruner, build_sampler
    from cnnlab.sweep.space import read_space
    from cnnlab.sweep.study import Spent, open_study
    from cnnlab.sweep.trial import DataInMemory, Task

    torch.set_num_threads(order["threads"])
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    config = OmegaConf.create(order["config"])
    mlflow.set_tracking_uri(OmegaConf.select(config, "tracking.uri"))
    goals = Goals(tuple(order["goals"]))
    folder = Path(order["folder"])
    data = DataInMemory(test=order["final"])
    sampler = pruner = None
    task: Any
    if order["final"]:
        from cnnlab.sweep.final import Final

        task = Final(config, order["parent_run"], data, folder)
    else:
        space = read_space(order["search"], config)
        sampler = build_sampler(order["sampler"], space, goals)
        pruner = build_pruner(order["pruner"])
        if order["reseed"]:
            sampler.reseed_rng()
        task = Task(config, space, goals, order["settings"]["seeds"], order["parent_run"], data, folder)
    study, _ = open_study(order["settings"], order["study"], order["directions"], order["total"], sampler, pruner)
    gc.freeze()  # the imports stay for good: collecting what a trial leaves need not walk through them
    while True:
        if hopeless(study, order["since"], order["settings"]["stop_after_failures"]):
            return HOPELESS
        try:
            study.optimize(task, n_trials=1, catch=(Exception,))
        except Spent:
            if settled(study):
                return 0
            time.sleep(POLL)
        except (optuna.exceptions.UpdateFinishedTrialError, ValueError) as error:
            # The machine slept, others took this trial for dead, and it counts elsewhere now. Optuna refuses to `tell`
            # it with a bare ValueError; any other one is a sampler's, and would come again for ever.
            if isinstance(error, ValueError) and not str(error).startswith("Cannot tell"):
                raise
            print(f"a trial was taken over by another worker: {error}", file=sys.stderr)


def settled(study: Any) -> bool:
    """Return whether no trial is running or waiting anywhere."""
    from cnnlab.sweep.study import UNFINISHED

    return not study.get_trials(deepcopy=False, states=UNFINISHED)


def hopeless(study: Any, since: int, limit: int) -> bool:
    """Return whether `limit` trials from number `since` on ended, and every one of them failed."""
    from optuna.trial import TrialState

    from cnnlab.sweep.study import REASON

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
