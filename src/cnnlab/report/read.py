"""The runs that a leaderboard counts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import mlflow
from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException

from cnnlab.tracking.find import open_client, results, search
from cnnlab.tracking.schema import Role, Tag


@dataclass
class Facts:
    """One run: where and when, its tags, and those of its metrics that are numbers."""

    run_id: str
    experiment: str
    status: str
    started: int  # milliseconds since 1970
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


def read_runs(uri: str) -> list[Facts]:
    """Return every result and every sweep that is not deleted, and of a sweep without a finished winner its best trial.

    Raises UsageError where there is no store.
    """
    client = open_client(uri)
    runs = results()
    sweeps = search(f"tags.`{Tag.ROLE}` = '{Role.SWEEP}'")
    won = {run.data.tags.get(Tag.PARENT) for run in runs if run.info.status == "FINISHED"}
    best = [sweep.data.tags.get(Tag.BEST_RUN) for sweep in sweeps if sweep.info.run_id not in won]
    trials = [run for run_id in best if run_id and (run := existing(client, run_id))]
    names = {item.experiment_id: item.name for item in client.search_experiments()}
    return [facts(run, names) for run in (*runs, *trials, *sweeps)]


def existing(client: mlflow.MlflowClient, run_id: str) -> Run | None:
    """Return a run, or None for one that was deleted."""
    try:
        run = client.get_run(run_id)
    except MlflowException:
        return None
    return run if run.info.lifecycle_stage == LifecycleStage.ACTIVE else None


def facts(run: Run, experiments: dict[str, str]) -> Facts:
    """Return what a leaderboard needs of a run; `experiments` are names by id."""
    info, metrics = run.info, run.data.metrics
    numbers = {name: value for name, value in metrics.items() if not math.isnan(value)}
    name = experiments.get(info.experiment_id, "")
    return Facts(info.run_id, name, info.status, info.start_time, dict(run.data.tags), numbers)
