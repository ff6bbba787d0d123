"""The trainings of a comparison: queued pair by pair and worked on by the processes that sweeps have."""

from __future__ import annotations

import time

from omegaconf import OmegaConf

from cnnlab import process
from cnnlab.console import console
from cnnlab.errors import UsageError
from cnnlab.own_path import written
from cnnlab.settings.comparing import Compare
from cnnlab.settings.sweep import Constraints, Contender, Sweep, WorkerOrder
from cnnlab.sweeps.repeat import training_overrides
from cnnlab.sweeps.study import requeue_dead
from cnnlab.sweeps.workers import WorkerPool, WorkersFailed
from cnnlab.tracking.schema import Metric
from cnnlab.verdicts.comparison import Comparison
from cnnlab.verdicts.decision import Answer
from cnnlab.verdicts.pairs import A, B, Pair
from cnnlab.verdicts.wording import pair_line

POLL = 0.5  # seconds between two looks at the study
GOALS = (str(Metric.TRAINING_SECONDS),)  # what Optuna is told of a training; nothing is searched


def queue_settings(settings: Compare, name: str) -> Sweep:
    """Return how the trainings are queued: as those of a sweep that searches nothing."""
    return Sweep(
        name=name,
        n_trials=2 * settings.max_seeds,
        n_workers=settings.n_workers,
        fused=None,
        devices_per_trial=1,
        objective=GOALS,
        seeds=1,
        folds=settings.folds,
        final_seeds=0,
        minutes=None,
        first=(),
        constraints=Constraints(parameters=None, latency=None),
        storage=settings.storage,
        heartbeat=settings.heartbeat,
        grace=settings.grace,
        retries=settings.retries,
        stop_after_failures=1,
    )


def train_pairs(this: Comparison) -> list[Pair]:
    """Train pair after pair until the answer is there, or nothing more may be trained; return the pairs."""
    settings, started = this.settings, time.monotonic()
    told = 0

    def decided(found: list[Pair]) -> bool:
        nonlocal told
        for place in range(told, len(found)):
            console.print(pair_line(this, found[: place + 1]), soft_wrap=True)
            told = place + 1
            if this.find(found[: place + 1]).answer is not Answer.OPEN:
                return True
        return len(found) == len(this.pairs.numbers)

    found = this.pairs.complete()
    if decided(found):
        return found[:told]
    trials = this.pairs.study.get_trials(deepcopy=False)
    at_once = -(-settings.n_workers // 2)
    devices = process.visible_devices(this.a.settings.trainer.accelerator)
    size = min(settings.n_workers, 2 * len(this.pairs.numbers))
    pool = WorkerPool(work_order(this, len(trials)), size, devices, this.job.folder / "workers")
    before = len(found)
    try:
        with pool:
            while True:
                found = this.pairs.complete()
                if decided(found):
                    break
                if settings.minutes is None or time.monotonic() - started < 60 * settings.minutes:
                    # Before the first look no answer can stop what is queued.
                    this.pairs.queue(max(len(found) + at_once, settings.min_seeds * (settings.minutes is None)))
                elif not this.pairs.busy():
                    break
                if (line := this.pairs.failure(len(trials))) is not None:
                    raise UsageError(f"the comparison stopped: {line}")
                pool.supervise(len(found) > before)
                before = len(found)
                requeue_dead(this.pairs.study, this.pairs.lock, settings.retries)
                time.sleep(POLL)
    except WorkersFailed as error:
        reason = this.pairs.failure(len(trials)) or str(error)
        raise UsageError(f"the comparison stopped: {reason}") from error
    finally:
        requeue_dead(this.pairs.study, this.pairs.lock, None)  # those we stopped ourselves are no failures
    return found[:told]


def work_order(this: Comparison, since: int) -> WorkerOrder:
    """Return the order for the workers."""
    own = this.job.own_folder
    contenders = {
        side.name: Contender(
            config=OmegaConf.to_yaml(side.config),
            overrides=(*written(own), *training_overrides(side.job.overrides)),
            experiment=side.job.choices.get("experiment"),
        )
        for side in (this.a, this.b)
    }
    return WorkerOrder(
        study=this.pairs.study.study_name,
        sweep=queue_settings(this.settings, this.pairs.study.study_name),
        goals=GOALS,
        upward=(),
        total=None,
        search=None,
        config=contenders[A].config,
        overrides=contenders[A].overrides,
        choices={},
        contenders={A: contenders[A], B: contenders[B]},
        waits=True,
        chosen=(),
        own_folder=str(own.resolve()) if own else None,
        parent_run=this.parent.run_id,
        folder=str(this.job.folder / "pairs"),
        threads=process.available_cores(),
        since=since,
    )
