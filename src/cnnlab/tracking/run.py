"""One MLflow run as a context manager: opened, new or again, fed, and ended with its true status."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from functools import partial

import mlflow
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.time import get_current_time_millis

from cnnlab.errors import UsageError, described, hidden
from cnnlab.settings.commands import Tracking
from cnnlab.signals import Interruption, deferred
from cnnlab.tracking.colors import color_tags
from cnnlab.tracking.descriptions import command, ending_line
from cnnlab.tracking.history import logged_steps
from cnnlab.tracking.reach import is_server, within
from cnnlab.tracking.recording import OPENING, SAMPLE, end_abandoned, is_recorded, open_recording
from cnnlab.tracking.sampler import Sampler
from cnnlab.tracking.schema import Tag
from cnnlab.tracking.stale import process_tags
from cnnlab.tracking.store import connect, prepare, reserved_space
from cnnlab.tracking.tracked_run import TrackedRun, rounded, tracked_run, writer_of

FreeSpace = Callable[[], None]  # gives back the disk space that is held for the last words of a run


def end_for_another(settings: Tracking, run_id: str, reason: str) -> bool:
    """End a run FAILED whose own process is gone; return whether it had not ended, as far as can be seen.

    A server that is away hears of it later.
    """
    tags = {str(Tag.ERROR): reason}
    if is_recorded(settings) and (end_abandoned(settings, run_id, "FAILED", tags) or settings.offline):
        return True
    if not is_server(settings.uri):
        return _end_in_store(settings.uri, run_id, "FAILED", tags)
    with suppress(UsageError, MlflowException):
        return within(settings.uri, lambda: _end_in_store(settings.uri, run_id, "FAILED", tags), OPENING)
    return False


def end_own(run: TrackedRun, settings: Tracking, reason: str, *, interrupted: bool) -> str | None:
    """End a run of this process whose main thread cannot; return what waits for its server, if anything does."""
    status, tag = ("KILLED", Tag.INTERRUPTION) if interrupted else ("FAILED", Tag.ERROR)
    if run.recording is None:
        _end_in_store(settings.uri, run.run_id, status, {tag: reason})
    elif not run.recording.journal.ended:
        _end(run, status, {tag: reason})
    return _finish(run)


def _end_in_store(uri: str, run_id: str, status: str, tags: Mapping[str, str]) -> bool:
    """End a run that is RUNNING; return whether it was."""
    run = tracked_run(uri, run_id)
    if run.client.get_run(run_id).info.status != "RUNNING":
        return False
    run.set_tags(tags)
    run.describe(ending_line(status, tags), command(run.tags))
    run.client.set_terminated(run_id, status)
    return True


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
    color = color_tags(client, settings.uri, experiment_id, tags)
    kept = {key: hidden(value) for key, value in resolve_tags({**tags, **color, **process_tags()}).items()}
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
        run_id = _create(settings, tags, experiment_id)
    connect(settings.uri)
    try:
        # Nested: a notebook may have a run of its own open.
        active = mlflow.start_run(run_id=run_id, nested=True, log_system_metrics=False)
    except MlflowException as error:
        raise UsageError(f"tracking.uri={settings.uri!r} does not hold the MLflow run {run_id}") from error
    client = mlflow.MlflowClient()
    logged = frozenset() if new else logged_steps(client, run_id)
    sampler = None
    if settings.system_metrics:
        first = 1 + max((step for name, step in logged if name == SAMPLE), default=-1)
        sampler = Sampler(run_id, settings.system_metrics_interval, first, partial(_keep_sample, client, run_id))
        sampler.start()
    known, writer = {**active.data.tags, **tags}, writer_of(client, run_id)
    run = TrackedRun(run_id, active.info.experiment_id, client, logged, writer=writer, sampler=sampler, tags=known)
    for tag in () if new else (Tag.ERROR, Tag.INTERRUPTION):
        if tag in active.data.tags:
            client.delete_tag(run_id, tag)
    if not new:
        run.set_tags({**tags, **process_tags()})
    return run


def _keep_sample(client: mlflow.MlflowClient, run_id: str, step: int, metrics: Mapping[str, float]) -> None:
    now = get_current_time_millis()
    client.log_batch(run_id, metrics=[Metric(key, rounded(key, value), now, step) for key, value in metrics.items()])


def _beside(settings: Tracking, tags: Mapping[str, str], experiment_id: str) -> TrackedRun:
    run_id = _create(settings, tags, experiment_id)
    connect(settings.uri)
    client = mlflow.MlflowClient()
    return TrackedRun(run_id, experiment_id, client, active=False, writer=writer_of(client, run_id), tags=dict(tags))


def _record(settings: Tracking, tags: Mapping[str, str], run_id: str | None) -> TrackedRun:
    recording = open_recording(settings, tags, run_id)
    logged = frozenset((entry.key, entry.step) for known in recording.client.history.values() for entry in known)
    client, own = recording.client, recording.run_id
    return TrackedRun(
        own,
        recording.experiment_id,
        client,
        logged,
        recording,
        writer=writer_of(client, own),
        sampler=recording.sampler,
        tags=dict(tags),
    )


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
        first, *rest = run.story or ["", command(run.tags)]
        run.describe("; ".join(filter(None, [ending_line(status, tags), first])), *rest)
    finally:
        run.end(status)
