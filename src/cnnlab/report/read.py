"""The runs that a leaderboard counts, and the readings of the test splits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import mlflow
from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException

from cnnlab.tracking.find import open_client, search
from cnnlab.tracking.ledger import Reading, readings_of
from cnnlab.tracking.schema import Role, Tag, is_result


@dataclass
class Facts:
    """One run: where and when, its tags, those of its metrics that are numbers, and its settings."""

    run_id: str
    experiment: str
    status: str
    started: int  # milliseconds since 1970
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    data: str = ""  # digest of the dataset; of one whose test split was never opened '' or that of the rest
    settings: dict[str, str] = field(default_factory=dict)  # as the store has them: texts, by key


@dataclass(frozen=True)
class Found:
    """What a store holds: the runs, and every reading of a test split, also by runs that were deleted."""

    runs: list[Facts]
    readings: list[Reading]


def read_store(uri: str) -> Found:
    """Return every result and every sweep that is not deleted, of a sweep without a finished winner its best trial, and
    the readings of test splits.

    Raises UsageError where there is no store.
    """
    client = open_client(uri)
    tested = search(f"tags.{Tag.SETTINGS} IS NOT NULL", deleted=True)
    active = (run for run in tested if run.info.lifecycle_stage == LifecycleStage.ACTIVE)
    runs = [run for run in active if is_result(run.data.tags)]
    sweeps = search(f"tags.`{Tag.ROLE}` = '{Role.SWEEP}'")
    won = {run.data.tags.get(Tag.PARENT) for run in runs if run.info.status == "FINISHED"}
    best = [sweep.data.tags.get(Tag.BEST_RUN) for sweep in sweeps if sweep.info.run_id not in won]
    trials = [run for run_id in best if run_id and (run := existing(client, run_id))]
    names = {item.experiment_id: item.name for item in client.search_experiments()}
    found = [facts(run, names) for run in (*runs, *trials, *sweeps)]
    return Found(found, [reading for run in tested for reading in readings_of(run)])


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
    digests = [item.dataset.digest for item in run.inputs.dataset_inputs] if run.inputs else []
    unsealed = [reading.data for reading in readings_of(run)] if Tag.SEALED in run.data.tags else []
    data = next(iter((*unsealed, *digests)), "")
    known = dict(run.data.tags), numbers, data, dict(run.data.params)
    return Facts(info.run_id, name, info.status, info.start_time, *known)
