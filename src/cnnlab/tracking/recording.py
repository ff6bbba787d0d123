"""A run that is kept on this machine first and delivered to its server beside the training, or later: `offline`."""

from __future__ import annotations

import platform
import tempfile
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import mlflow
from mlflow.entities import DatasetInput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.entities.paged_list import PagedList
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking.context.registry import resolve_tags

from cnnlab.errors import UsageError, hidden
from cnnlab.settings.commands import Tracking
from cnnlab.start import typed
from cnnlab.tracking.courier import Courier
from cnnlab.tracking.delivery import identity, metrics_of, now
from cnnlab.tracking.journal import UNDELIVERED, Journal, Kind, begin, journals
from cnnlab.tracking.reach import check_reachable, is_server, within
from cnnlab.tracking.schema import Tag
from cnnlab.tracking.stale import process_tags
from cnnlab.tracking.store import absolute_uri, told_errors

OPENING = 9.0  # seconds in which a server creates a run, or says that it has it
SAMPLE = "system/cpu_utilization_percentage"  # stands for all samples of the system: they have common steps
SYSTEM = "system/"  # prefix of those samples, which nobody reads again
REQUEST = 100  # parameters or tags that MLflow takes at once: a line is a request, of which one answer tells
PATIENCE = 5.0  # seconds for which another process may still deliver what this one goes on with


Item = TypeVar("Item")


class RecordingClient(mlflow.MlflowClient):
    """A client whose run is written into a journal, and read from it; anything else it asks the server."""

    def __init__(self, uri: str, run_id: str, journal: Journal, tell: Callable[[], None]):
        super().__init__(uri)
        self.own = run_id
        self.journal = journal
        self.tell = tell
        self.history: dict[str, list[Metric]] = defaultdict(list)
        self.parameters: dict[str, str] = {}

    def remember(self, known: Sequence[Metric]) -> None:
        """Know metrics of an earlier process of the same run, each once."""
        for entry in {identity(entry): entry for entry in known}.values():
            self.history[entry.key].append(entry)

    def note(self, kind: Kind, **content: object) -> None:
        """Append a line and say so."""
        self.journal.append(kind, **content)
        self.tell()

    def log_batch(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Sequence[Param] = (),
        tags: Sequence[RunTag] = (),
        synchronous: bool | None = None,
    ) -> None:
        if run_id != self.own:
            super().log_batch(run_id, metrics, params, tags, synchronous)
            return
        self.parameters |= {param.key: param.value for param in params}
        for some in batched(params, REQUEST):
            self.note(Kind.PARAMETERS, texts={param.key: param.value for param in some})
        for few in batched(tags, REQUEST):
            self.note(Kind.TAGS, texts={tag.key: tag.value for tag in few})
        if metrics:
            for metric in metrics:
                self.history[metric.key].append(metric)
            entries = [(metric.key, metric.value, metric.timestamp, metric.step) for metric in metrics]
            self.note(Kind.METRICS, entries=entries)

    def get_metric_history(self, run_id: str, key: str) -> PagedList[Metric]:
        if run_id != self.own:
            return PagedList(super().get_metric_history(run_id, key), token=None)
        return PagedList(self.history.get(key, []), token=None)

    def log_text(self, run_id: str, text: str, artifact_file: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, Path(artifact_file).name)
            file.write_text(text, encoding="utf-8")
            parent = Path(artifact_file).parent.as_posix()
            self.log_artifact(run_id, str(file), None if parent == "." else parent)

    def log_artifact(self, run_id: str, local_path: str, artifact_path: str | None = None) -> None:
        self.note(Kind.ARTIFACT, kept=self.journal.keep(Path(local_path)), to=artifact_path or "")

    def log_artifacts(self, run_id: str, local_dir: str, artifact_path: str | None = None) -> None:
        source = Path(local_dir)
        for file in sorted(file for file in source.rglob("*") if file.is_file()):
            parts = (artifact_path or "", file.parent.relative_to(source).as_posix())
            self.log_artifact(run_id, str(file), "/".join(part for part in parts if part not in ("", ".")))

    def log_inputs(self, run_id: str, datasets: Sequence[DatasetInput] | None = None, models: object = None) -> None:
        for item in datasets or ():
            texts = {tag.key: tag.value for tag in item.tags}
            self.note(Kind.DATASET, dataset=dict(item.dataset), texts=texts)

    def log_model_folder(self, name: str, folder: Path) -> None:
        """Keep a folder as MLflow writes models; the server gives it its id."""
        named = resolve_tags({str(Tag.RECORDED): uuid.uuid4().hex})
        texts = {key: hidden(value) for key, value in named.items()}
        kept = self.journal.keep(folder)
        self.note(Kind.MODEL, name=name, kept=kept, texts=texts, parameters=self.parameters)


class Sampler(SystemMetricsMonitor):
    """MLflow's samples of processor, memory, disk, network and GPU, without its questions to the server."""

    def __init__(self, run_id: str, interval: float, first_step: int, keep: Callable[[int, Mapping[str, float]], None]):
        super().__init__(run_id, sampling_interval=interval)
        self._logging_step = first_step
        self.keep = keep

    def monitor(self) -> None:
        while True:
            self.collect_metrics()
            if self._shutdown_event.wait(self.sampling_interval):
                return
            self.keep(self._logging_step, {f"{self._metrics_prefix}{key}": value for key, value in self.taken()})
            self._logging_step += 1

    def finish(self) -> None:
        self._shutdown_event.set()
        if self._process is not None:
            self._process.join()

    def taken(self) -> Sequence[tuple[str, float]]:
        """Return the samples since the last time, and forget them."""
        samples = list(self.aggregate_metrics().items())
        for monitor in self.monitors:
            monitor.clear_metrics()
        return samples


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


def batched(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Yield the items in order, so many at once."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


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
