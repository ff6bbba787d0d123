"""One MLflow run as a context manager: opened, new or again, fed, and ended with its true status."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.time import get_current_time_millis

from cnnlab.errors import UsageError, described, hidden
from cnnlab.settings.commands import Tracking
from cnnlab.signals import Interruption, deferred
from cnnlab.tracking.history import History, epoch_history, logged_steps
from cnnlab.tracking.reach import is_server, within
from cnnlab.tracking.recording import OPENING, Recording, end_abandoned, is_recorded, open_recording
from cnnlab.tracking.schema import Tag
from cnnlab.tracking.stale import process_tags
from cnnlab.tracking.store import connect, prepare, reserved_space
from cnnlab.tracking.writer import Writer

FreeSpace = Callable[[], None]  # gives back the disk space that is held for the last words of a run


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

    @property
    def waits(self) -> str | None:
        """What of a run that has ended no server has yet, and the command that delivers it."""
        return self.recording.waits if self.recording else None

    @property
    def model_uri(self) -> str | None:
        """The address of the model that a server was given, once it was."""
        model_id = self.recording.journal.acknowledged.model_id if self.recording else ""
        return f"models:/{model_id}" if model_id else None

    @property
    def tags(self) -> dict[str, str]:
        return dict(self.client.get_run(self.run_id).data.tags)

    def log_parameters(self, parameters: Mapping[str, object]) -> None:
        """Keep the configuration, one parameter a key; MLflow cuts values beyond its own limit."""
        self.client.log_batch(self.run_id, params=[Param(key, hidden(str(value))) for key, value in parameters.items()])

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

    def _entries(self, epoch: int, metrics: Mapping[str, float]) -> list[Metric]:
        now = get_current_time_millis()
        return [
            Metric(key, float(value), now, epoch) for key, value in metrics.items() if (key, epoch) not in self.logged
        ]

    def log_text(self, text: str, file_name: str) -> None:
        self.client.log_text(self.run_id, hidden(text), file_name)

    def log_file(self, file: Path, folder: str | None = None) -> None:
        self.client.log_artifact(self.run_id, str(file), folder)

    def log_folder(self, source: Path, folder: str) -> None:
        """Keep the files of `source` under the artifact folder `folder`."""
        self.client.log_artifacts(self.run_id, str(source), folder)

    def end(self, status: str) -> None:
        """End the run as what it was."""
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


def writer_of(client: mlflow.MlflowClient, run_id: str) -> Writer:
    """Return what writes the epochs of a run beside its training."""
    return Writer(lambda entries: client.log_batch(run_id, metrics=entries))


def tracked_run(uri: str, run_id: str) -> TrackedRun:
    """Return a run that has ended, to be added to; its status stays what it was."""
    client = mlflow.MlflowClient(uri)
    return TrackedRun(run_id, client.get_run(run_id).info.experiment_id, client)


def end_for_another(settings: Tracking, run_id: str, reason: str) -> None:
    """End a run FAILED whose own process is gone, unless it has ended; a server that is away hears of it later."""
    tags = {str(Tag.ERROR): reason}
    if is_recorded(settings) and (end_abandoned(settings, run_id, "FAILED", tags) or settings.offline):
        return
    if is_server(settings.uri):
        with suppress(UsageError, MlflowException):
            within(settings.uri, lambda: _end_in_store(settings.uri, run_id, "FAILED", tags), OPENING)
    else:
        _end_in_store(settings.uri, run_id, "FAILED", tags)


def end_own(run: TrackedRun, settings: Tracking, reason: str, *, interrupted: bool) -> str | None:
    """End a run of this process whose main thread cannot; return what waits for its server, if anything does."""
    status, tag = ("KILLED", Tag.INTERRUPTION) if interrupted else ("FAILED", Tag.ERROR)
    if run.recording is None:
        _end_in_store(settings.uri, run.run_id, status, {tag: reason})
    elif not run.recording.journal.ended:
        _end(run, status, {tag: reason})
    return _finish(run)


def _end_in_store(uri: str, run_id: str, status: str, tags: Mapping[str, str]) -> None:
    client = mlflow.MlflowClient(uri)
    if client.get_run(run_id).info.status == "RUNNING":
        client.log_batch(run_id, tags=[RunTag(key, hidden(value)) for key, value in tags.items()])
        client.set_terminated(run_id, status)


def create_run(settings: Tracking, tags: Mapping[str, str]) -> str:
    """Create a run, with MLflow's own tags of user and source, and return its id.

    Raises UsageError where the store cannot be used.
    """
    experiment_id = prepare(settings.uri, settings.experiment_name)
    if not is_server(settings.uri):
        return _create(settings, tags, experiment_id)
    return within(settings.uri, lambda: _create(settings, tags, experiment_id), OPENING)


def _create(settings: Tracking, tags: Mapping[str, str], experiment_id: str) -> str:
    client = mlflow.MlflowClient(settings.uri)
    kept = {key: hidden(value) for key, value in resolve_tags({**tags, **process_tags()}).items()}
    return client.create_run(experiment_id, tags=kept, run_name=settings.run_name).info.run_id


@contextmanager
def open_run(
    settings: Tracking, tags: Mapping[str, str], run_id: str | None = None, reserve: FreeSpace | None = None
) -> Iterator[TrackedRun]:
    """Open a new run, or the one with `run_id` again, and end it as what it was.

    FINISHED when the block ends, FAILED with the error as tag and traceback.txt when it raises, KILLED when it is
    interrupted. Raises UsageError before anything is written where the store cannot be used or has no such run.

    A server is only asked at the start. From there on the run is kept on this machine and delivered beside it; what is
    not delivered at its end is said by `waits`, on an interruption by a note and on an error on stderr.

    With a `reserve`, which the caller holds, it is one of several that are open at once: they end in any order, and
    none is what MLflow's own functions mean.
    """
    recorded = is_recorded(settings)
    experiment_id = "" if recorded else prepare(settings.uri, settings.experiment_name)
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else settings.uri  # a notebook's own store
    run = None
    with nullcontext(reserve) if reserve else reserved_space(settings.uri) as free_space:
        try:
            with deferred():
                if recorded:
                    run = _record(settings, tags, run_id)
                elif reserve:
                    run = _beside(settings, tags, experiment_id)
                else:
                    run = _start(settings, tags, experiment_id, run_id)
            yield run
            run.flush()
            with deferred():
                run.end("FINISHED")
            _finish(run)
        except Interruption as interruption:
            with deferred():
                free_space()
                _end(run, "KILLED", {Tag.INTERRUPTION: interruption.name})
            if waits := _finish(run):
                interruption.add_note(waits)
            raise
        except BaseException as error:
            with deferred():
                free_space()
                _end(run, "FAILED", {Tag.ERROR: described(error)}, traceback.format_exc())
            if waits := _finish(run):
                print(waits, file=sys.stderr)
            raise
        finally:
            connect(before)


def _start(settings: Tracking, tags: Mapping[str, str], experiment_id: str, run_id: str | None) -> TrackedRun:
    new = run_id is None
    if run_id is None:
        run_id, tags = _create(settings, tags, experiment_id), {}
    connect(settings.uri)
    mlflow.set_system_metrics_sampling_interval(settings.system_metrics_interval)
    try:
        # Nested: a notebook may have a run of its own open.
        active = mlflow.start_run(run_id=run_id, nested=True, log_system_metrics=settings.system_metrics)
    except MlflowException as error:
        raise UsageError(f"tracking.uri={settings.uri!r} does not hold the MLflow run {run_id}") from error
    client = mlflow.MlflowClient()
    logged = frozenset() if new else logged_steps(client, run_id)
    run = TrackedRun(active.info.run_id, active.info.experiment_id, client, logged, writer=writer_of(client, run_id))
    for tag in () if new else (Tag.ERROR, Tag.INTERRUPTION):
        if tag in active.data.tags:
            client.delete_tag(run_id, tag)
    run.set_tags({**tags, **process_tags()})
    return run


def _beside(settings: Tracking, tags: Mapping[str, str], experiment_id: str) -> TrackedRun:
    run_id = _create(settings, tags, experiment_id)
    connect(settings.uri)
    client = mlflow.MlflowClient()
    return TrackedRun(run_id, experiment_id, client, active=False, writer=writer_of(client, run_id))


def _record(settings: Tracking, tags: Mapping[str, str], run_id: str | None) -> TrackedRun:
    recording = open_recording(settings, tags, run_id)
    logged = frozenset((entry.key, entry.step) for known in recording.client.history.values() for entry in known)
    client, own = recording.client, recording.run_id
    return TrackedRun(own, recording.experiment_id, client, logged, recording, writer=writer_of(client, own))


def _finish(run: TrackedRun | None) -> str | None:
    """Let the last deliveries arrive, for some seconds; return what still waits."""
    if run is None or run.recording is None:
        return None
    run.recording.finish()
    return run.waits


def _end(run: TrackedRun | None, status: str, tags: Mapping[str, str], details: str | None = None) -> None:
    """End the run; its status counts more than the tags that explain it, which a full disk may refuse."""
    if run is None:
        return
    try:
        run.flush()
        run.set_tags(tags)
        if details:
            run.log_text(details, "traceback.txt")
    finally:
        run.end(status)
