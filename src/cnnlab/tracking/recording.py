"""A run that is kept on this machine first and delivered to its server beside the training, or later: `offline`."""

from __future__ import annotations

import platform
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags

from cnnlab.errors import UsageError, hidden
from cnnlab.settings.commands import Tracking
from cnnlab.start import typed
from cnnlab.tracking.courier import Courier
from cnnlab.tracking.delivery import metrics_of, now
from cnnlab.tracking.journal import UNDELIVERED, Journal, Kind, begin, journals
from cnnlab.tracking.reach import check_reachable, is_server, within
from cnnlab.tracking.recording_client import RecordingClient
from cnnlab.tracking.sampler import Sampler
from cnnlab.tracking.schema import Tag
from cnnlab.tracking.stale import process_tags
from cnnlab.tracking.store import absolute_uri, told_errors

OPENING = 9.0  # seconds in which a server creates a run, or says that it has it
SAMPLE = "system/cpu_utilization_percentage"  # stands for all samples of the system: they have common steps
SYSTEM = "system/"  # prefix of those samples, which nobody reads again
PATIENCE = 5.0  # seconds for which another process may still deliver what this one goes on with


@dataclass
class Recording:
    """A run under way in a journal."""

    run_id: str
    experiment_id: str
    client: RecordingClient
    journal: Journal
    courier: Courier | None
    sampler: Sampler | None = None
    waits: str | None = None  # after the end: what waits for a server, why, and what to do

    def keep_sample(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keep a sample of the system."""
        self.client.log_batch(self.run_id, [Metric(key, value, now(), step) for key, value in metrics.items()])

    def end(self, status: str) -> None:
        """Write how the run ended."""
        if self.sampler is not None:
            self.sampler.finish()
        self.client.note(Kind.END, status=status, time=now())

    def finish(self) -> None:
        """Wait a little for what is still on its way, and note what stays behind."""
        if self.courier is None:
            self.journal.release()
            return
        if (reason := self.courier.finish()) is not None:
            self.waits = (
                f"run {self.run_id}: {self.journal.waiting()} deliveries wait in {_shown(self.journal.folder)}, as "
                f"{hidden(self.client.tracking_uri)} is away ({reason}); deliver them: {typed('sync')}"
            )


def is_recorded(settings: Tracking) -> bool:
    """Return whether runs are kept in a journal first: those for a server, and those for whatever is offline."""
    return settings.offline or is_server(settings.uri)


def open_recording(settings: Tracking, tags: Mapping[str, str], run_id: str | None) -> Recording:
    """Open a new run, or that with `run_id` again, whose news wait in a journal before those that are to come.

    Unless it is offline the server is asked, for seconds, whether it is there and has the run. Raises UsageError, with
    nothing written, where it has not.
    """
    uri = absolute_uri(settings.uri)
    if not settings.offline:
        check_reachable(uri)
    journal, history = _again(uri, run_id, settings.offline) if run_id else (begin(uuid.uuid4().hex), [])
    own_tags = {**tags, **process_tags()}
    texts = own_tags if run_id else resolve_tags({**own_tags, str(Tag.RECORDED): journal.folder.name})
    journal.append(
        Kind.BEGIN,
        run_id=run_id or "",
        uri=hidden(uri),
        experiment=settings.experiment_name,
        name=settings.run_name,
        time=now(),
        host=platform.node(),
        texts={key: hidden(value) for key, value in texts.items()},
    )
    courier = None if settings.offline else Courier(journal, uri)
    if courier is not None:
        if not run_id:
            _create(courier)
        courier.start()
    known = journal.acknowledged
    own = run_id or known.run_id or journal.folder.name
    client = RecordingClient(uri, own, journal, courier.tell if courier else _nobody)
    client.remember(history)
    recording = Recording(own, known.experiment_id, client, journal, courier)
    if settings.system_metrics:
        first = 1 + max((entry.step for entry in client.history.get(SAMPLE, [])), default=-1)
        recording.sampler = Sampler(own, settings.system_metrics_interval, first, recording.keep_sample)
        recording.sampler.start()
    return recording


def end_abandoned(settings: Tracking, run_id: str, status: str, tags: Mapping[str, str]) -> bool:
    """End a recorded run whose process is gone: in its journal, delivered as far as seconds allow.

    False where this machine has no journal of it: the server has everything, or it is another machine's. Whoever holds
    the journal just now does the same.
    """
    try:
        journal = _waiting_for(run_id)
    except UsageError:
        return True
    if journal is None:
        return False
    if not journal.ended:
        journal.append(Kind.TAGS, texts={key: hidden(value) for key, value in tags.items()})
        journal.append(Kind.END, status=status, time=now())
    if settings.offline:
        journal.release()
        return True
    courier = Courier(journal, absolute_uri(settings.uri))
    courier.start()
    courier.finish()
    return True


def _create(courier: Courier) -> None:
    """Let the server create the run, or leave nothing behind."""
    uri = courier.delivery.uri
    try:
        with told_errors(uri):
            within(uri, courier.delivery.step, OPENING)
    except BaseException:
        courier.journal.remove()
        raise


def _again(uri: str, run_id: str, offline: bool) -> tuple[Journal, list[Metric]]:
    """Return the journal of a run that was opened before, held by this process, and what is known of its epochs."""
    waiting = _waiting_for(run_id)
    experiment_id = ""
    history: list[Metric] = []
    try:
        if not offline and not (waiting and not waiting.acknowledged.run_id):
            with told_errors(uri):
                experiment_id, history = within(uri, lambda: _known(uri, run_id), OPENING)
    except BaseException:
        if waiting:
            waiting.release()
        raise
    if waiting:
        return waiting, history + [entry for line, _ in waiting.lines() for entry in metrics_of(line)]
    journal = begin(run_id)
    journal.acknowledge(run_id=run_id, experiment_id=experiment_id)
    return journal, history


def _waiting_for(run_id: str) -> Journal | None:
    """Return the journal in which news of a run still wait, held by this process."""
    for journal in journals():
        if run_id not in (journal.acknowledged.run_id, journal.folder.name):
            continue
        if journal.take(PATIENCE):
            return journal
        if journal.folder.exists():
            raise UsageError(
                f"run {run_id} is being written or delivered by another process; try again when it has ended"
            )
    return None


def _known(uri: str, run_id: str) -> tuple[str, list[Metric]]:
    """Return the experiment of a run, and what a server holds of its epochs; raises UsageError for an unknown run."""
    client = mlflow.MlflowClient(uri)
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise UsageError(f"tracking.uri={uri!r} does not hold the MLflow run {run_id}") from error
    names = [name for name in run.data.metrics if name == SAMPLE or not name.startswith(SYSTEM)]
    return run.info.experiment_id, [entry for name in names for entry in client.get_metric_history(run_id, name)]


def left_behind(since: int) -> str | None:
    """Say of how many runs begun since then (milliseconds since 1970) something waits for their server."""
    count = sum(1 for journal in journals() if int(str(journal.first["time"])) >= since)
    if not count:
        return None
    return f"deliveries of {count} runs wait in {UNDELIVERED}, as their server is away; deliver them: {typed('sync')}"


def _nobody() -> None:
    """Tell nobody: nothing is delivered while a run is offline."""


def _shown(folder: Path) -> Path:
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
