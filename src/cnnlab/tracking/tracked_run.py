"""An open run of MLflow's: its id, and the few ways to add to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.time import get_current_time_millis

from cnnlab.errors import hidden
from cnnlab.tracking.descriptions import description, is_own
from cnnlab.tracking.history import History, epoch_history
from cnnlab.tracking.kept_model import KeptModel, create_model, fill_model
from cnnlab.tracking.recording import Recording
from cnnlab.tracking.sampler import Sampler
from cnnlab.tracking.schema import Metric as Name
from cnnlab.tracking.schema import Tag
from cnnlab.tracking.writer import Writer

TIMES = (Name.EPOCH_SECONDS, Name.SPEED, Name.TRAINING_SECONDS)


@dataclass(frozen=True)
class TrackedRun:
    """The open run: its id, and the few ways to add to it."""

    run_id: str
    experiment_id: str
    client: mlflow.MlflowClient
    logged: frozenset[tuple[str, int]] = frozenset()  # of a run opened again: the metrics it has, with their steps
    recording: Recording | None = None  # where the run is kept on this machine first
    active: bool = True  # whether it is the run that MLflow's own functions mean, which only the last one opened is
    writer: Writer | None = None  # of an open run: writes its epochs beside the training
    sampler: Sampler | None = None  # of an open run: samples the system beside it
    tags: dict[str, str] = field(default_factory=dict)  # with which it was opened
    results: list[Metric] = field(default_factory=list)  # what came out of it so far, which its model is to point to
    story: list[str] = field(default_factory=list)  # of one that ends early: what is told after how it ended

    @property
    def waits(self) -> str | None:
        """What of a run that has ended no server has yet, and the command that delivers it."""
        return self.recording.waits if self.recording else None

    @property
    def model_uri(self) -> str | None:
        """The address of the model that a server was given, once it was."""
        model_id = self.recording.journal.acknowledged.model_id if self.recording else ""
        return f"models:/{model_id}" if model_id else None

    def log_parameters(self, parameters: Mapping[str, object], tags: Mapping[str, str] | None = None) -> None:
        """Keep the configuration, one parameter a key, and tags, in one call; MLflow cuts values beyond its limit."""
        self.client.log_batch(
            self.run_id,
            params=[Param(key, hidden(str(value))) for key, value in parameters.items()],
            tags=[RunTag(key, hidden(value)) for key, value in (tags or {}).items()],
        )

    def log_metrics(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Keep one epoch's metrics in one call; the step is the epoch, counted from 1.

        What a run that goes on has of this step stands: stopped after it was logged, the epoch is trained again.
        """
        self.flush()
        if entries := self._entries(epoch, metrics):
            self.client.log_batch(self.run_id, metrics=entries)

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Keep one epoch's metrics as `log_metrics` does, beside the training; raises what an earlier epoch met."""
        if self.writer is None:
            self.log_metrics(epoch, metrics)
        else:
            self.writer.put(self._entries(epoch, metrics))

    def flush(self) -> None:
        """Wait until the store, or the journal, has all epochs; raises what was met on the way."""
        if self.writer is not None:
            self.writer.flush()

    def history(self, names: Iterable[str] = ()) -> History:
        """Return what was logged of every epoch: see `epoch_history`."""
        self.flush()
        return epoch_history(self.client, self.run_id, names)

    def log_results(self, metrics: Mapping[str, float]) -> None:
        """Keep what came out of the run, at step 0: MLflow draws a single value of a later step as a curve of one dot.

        A run that goes on replaces what it had reached before.
        """
        self.flush()
        entries = self._entries(0, metrics)
        self.results.extend(entries)
        if entries:
            self.client.log_batch(self.run_id, metrics=entries)

    def _entries(self, epoch: int, metrics: Mapping[str, float]) -> list[Metric]:
        now = get_current_time_millis()
        return [
            Metric(key, rounded(key, value), now, epoch)
            for key, value in metrics.items()
            if epoch == 0 or (key, epoch) not in self.logged
        ]

    def log_text(self, text: str, file_name: str) -> None:
        self.client.log_text(self.run_id, hidden(text), file_name)

    def log_file(self, file: Path, folder: str | None = None) -> None:
        self.client.log_artifact(self.run_id, str(file), folder)

    def log_folder(self, source: Path, folder: str) -> None:
        """Keep the files of `source` under the artifact folder `folder`."""
        self.client.log_artifacts(self.run_id, str(source), folder)

    def log_model(self, name: str, folder: Path, tags: Mapping[str, str], dataset: tuple[str, str]) -> str | None:
        """Keep a folder as MLflow writes models, tied to what came out of the run; return its address.

        None where a server gives it one when it is delivered.
        """
        if self.recording is not None:
            self.recording.client.log_model_folder(KeptModel(name, folder, tags, {}, self.results, dataset))
            return None
        kept = KeptModel(
            name, folder, resolve_tags(tags), self.client.get_run(self.run_id).data.params, self.results, dataset
        )
        model = create_model(self.client, self.experiment_id, self.run_id, kept)
        try:
            fill_model(self.client, model, self.run_id, kept)
        except (MlflowException, OSError):
            self.client.finalize_logged_model(model.model_id, "FAILED")
            raise
        return str(model.model_uri)

    def stop_sampling(self) -> None:
        """Sample the system no more: what comes after a training is not what it took."""
        if self.sampler is not None:
            self.sampler.finish()

    def end(self, status: str) -> None:
        """End the run as what it was."""
        self.stop_sampling()
        if self.writer is not None:
            self.writer.close()
        if self.recording is not None:
            self.recording.end(status)
        elif self.active:
            mlflow.end_run(status)
        else:
            self.client.set_terminated(self.run_id, status)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        self.client.log_batch(self.run_id, tags=[RunTag(key, hidden(value)) for key, value in tags.items()])

    def describe(self, *parts: str) -> None:
        """Let its description in MLflow's pages be these parts, unless somebody has written another one."""
        # Of a recorded run that is asked when it is delivered.
        if self.recording or is_own(self.client.get_run(self.run_id).data.tags.get(Tag.NOTE, "")):
            self.set_tags({Tag.NOTE: description(*parts)})


def rounded(name: str, value: float) -> float:
    """Return a metric without digits that mean nothing, which MLflow's pages would show: float32 has seven, a
    measured time four.
    """
    number = float(value)
    return number if number.is_integer() else float(f"{number:.{4 if name in TIMES else 7}g}")


def writer_of(client: mlflow.MlflowClient, run_id: str) -> Writer:
    """Return what writes the epochs of a run beside its training."""
    return Writer(lambda entries: client.log_batch(run_id, metrics=entries))


def tracked_run(uri: str, run_id: str) -> TrackedRun:
    """Return a run that has ended, to be added to; its status stays what it was."""
    client = mlflow.MlflowClient(uri)
    run = client.get_run(run_id)
    return TrackedRun(run_id, run.info.experiment_id, client, tags=dict(run.data.tags))
