"""One MLflow run as a context manager: opened, fed, and ended with its true status."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric, Param
from mlflow.utils.time import get_current_time_millis

from cnnlab.interruption import Interruption, held
from cnnlab.tracking.store import prepare, reserved_space

PARAMETER_LIMIT = 6000  # characters, MLflow's own limit of a parameter's value
BATCH_LIMIT = 100  # parameters MLflow takes in one call
METRIC_LIMIT = 1000  # metrics MLflow takes in one call


@dataclass(frozen=True)
class TrackedRun:
    """The open run: its id, and the few ways to add to it."""

    run_id: str
    experiment_id: str
    client: mlflow.MlflowClient

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Keep the configuration, one parameter a key; values beyond MLflow's limit are cut there."""
        entries = [Param(key, str(value)[:PARAMETER_LIMIT]) for key, value in parameters.items()]
        for start in range(0, len(entries), BATCH_LIMIT):
            self.client.log_batch(self.run_id, params=entries[start : start + BATCH_LIMIT])

    def log_metrics(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Keep one epoch's metrics in one call; the step is the epoch, counted from 1."""
        now = get_current_time_millis()
        entries = [Metric(key, float(value), now, epoch) for key, value in metrics.items()]
        for start in range(0, len(entries), METRIC_LIMIT):
            self.client.log_batch(self.run_id, metrics=entries[start : start + METRIC_LIMIT])

    def log_text(self, text: str, file_name: str) -> None:
        self.client.log_text(self.run_id, text, file_name)

    def log_file(self, file: Path, folder: str | None = None) -> None:
        self.client.log_artifact(self.run_id, str(file), folder)

    def log_folder(self, source: Path, folder: str) -> None:
        """Keep the files of `source` under the artifact folder `folder`."""
        self.client.log_artifacts(self.run_id, str(source), folder)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self.client.set_tag(self.run_id, key, value)


@contextmanager
def open_run(settings: Mapping[str, Any], tags: Mapping[str, str]) -> Iterator[TrackedRun]:
    """Open a run in the configured store and end it as what it was.

    FINISHED when the block ends, FAILED with the error as tag and traceback.txt when it raises, KILLED when it is
    interrupted. `settings` is the `tracking` section of the configuration. Raises UsageError before anything is written
    where the store cannot be used.
    """
    experiment_id = prepare(settings["uri"], settings["experiment_name"])
    run = None
    with reserved_space(settings["uri"]) as free_space:
        try:
            with held():
                run = _start(settings, experiment_id, tags)
            yield run
            with held():
                mlflow.end_run("FINISHED")
        except Interruption as interruption:
            with held():
                free_space()
                _end(run, "KILLED", {"interruption": interruption.name})
            raise
        except BaseException as error:
            with held():
                free_space()
                _end(run, "FAILED", {"error": f"{type(error).__name__}: {error}"}, traceback.format_exc())
            raise


def _start(settings: Mapping[str, Any], experiment_id: str, tags: Mapping[str, str]) -> TrackedRun:
    mlflow.set_tracking_uri(settings["uri"])
    mlflow.set_system_metrics_sampling_interval(settings["system_metrics_interval"])
    active = mlflow.start_run(
        experiment_id=experiment_id,
        run_name=settings["run_name"],
        tags=dict(tags),
        log_system_metrics=settings["system_metrics"],
    )
    return TrackedRun(active.info.run_id, experiment_id, mlflow.MlflowClient())


def _end(run: TrackedRun | None, status: str, tags: Mapping[str, str], details: str | None = None) -> None:
    """End the run; its status counts more than the tags that explain it, which a full disk may refuse."""
    if run is None:
        return
    try:
        run.set_tags(tags)
        if details:
            run.log_text(details, "traceback.txt")
    finally:
        mlflow.end_run(status)
