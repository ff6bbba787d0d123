"""A journal's lines, sent to the store they are meant for: in order, each once, whatever becomes of an answer.

A line whose answer was lost, with its server or with this process, may have arrived. Parameters, tags, files and the
status are the same when they are sent again; of metrics, runs and models the store is asked what it holds first.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from cnnlab.errors import UsageError
from cnnlab.tracking.colors import color_tags
from cnnlab.tracking.descriptions import is_own
from cnnlab.tracking.journal import Journal, Kind, Line
from cnnlab.tracking.kept_model import KeptModel, create_model, fill_model
from cnnlab.tracking.schema import Tag
from cnnlab.tracking.shared_rows import log_dataset
from cnnlab.tracking.store import prepare
from cnnlab.tracking.writer import LARGEST_BATCH


class Delivery:
    """Sends what waits in a journal, which this process holds."""

    def __init__(self, journal: Journal, uri: str):
        self.journal = journal
        self.uri = uri
        self.client = mlflow.MlflowClient(uri)
        self.doubtful = True  # whether the next lines may have arrived already
        self.sending = 0  # bytes of the file or folder under way

    @property
    def run_id(self) -> str:
        return self.journal.acknowledged.run_id

    def step(self) -> bool:
        """Send the next lines that wait, those of metrics together; return whether there were any.

        Raises what MLflow raises where the server does not take them; they wait then as before.
        """
        lines, offset = self._next_lines()
        if not lines:
            return False
        try:
            self._send(lines)
        except BaseException:
            self.doubtful = True
            raise
        self.doubtful = False
        self.journal.acknowledge(offset=offset)
        for line in lines:
            if "kept" in line:
                self.journal.drop(line["kept"])
        return True

    def _next_lines(self) -> tuple[list[Line], int]:
        found: list[Line] = []
        offset, entries = self.journal.acknowledged.offset, 0
        for line, behind in self.journal.lines(offset):
            if found and (line["kind"] != Kind.METRICS or found[0]["kind"] != Kind.METRICS):
                break
            entries += len(_entries(line))
            if found and entries > LARGEST_BATCH:
                break
            found.append(line)
            offset = behind
        return found, offset

    def _send(self, lines: Sequence[Line]) -> None:
        line, run_id = lines[0], self.run_id
        kept = self.journal.path(line["kept"]) if "kept" in line else None
        self.sending = sum(file.stat().st_size for file in (kept, *kept.rglob("*")) if file.is_file()) if kept else 0
        match line["kind"]:
            case Kind.BEGIN:
                self._begin(line)
            case Kind.END:
                self.client.set_terminated(run_id, str(line["status"]), int(str(line["time"])))
            case Kind.METRICS:
                self._send_metrics([entry for each in lines for entry in metrics_of(each)])
            case Kind.PARAMETERS:
                self.client.log_batch(run_id, params=[Param(key, value) for key, value in _texts(line).items()])
            case Kind.TAGS:
                self._send_tags(_texts(line))
            case Kind.DATASET:
                log_dataset(self.client, run_id, dataset_of(line))
            case Kind.ARTIFACT if kept is not None:
                self.client.log_artifact(run_id, str(kept), str(line["to"]) or None)
            case Kind.MODEL if kept is not None:
                self._send_model(line, kept)
            case kind:
                raise UsageError(f"{self.journal.folder}: {kind!r} is no line of this version of cnnlab")

    def _begin(self, line: Line) -> None:
        """Create the run, or open one again that is there."""
        if not self.run_id and not line["run_id"]:
            experiment = prepare(self.uri, str(line["experiment"]))
            name, start = str(line["name"]), int(str(line["time"]))
            tags = _texts(line)
            tags |= color_tags(self.client, self.uri, experiment, tags)
            found = self.client.search_runs([experiment], f"tags.`{Tag.RECORDED}` = '{tags[Tag.RECORDED]}'")
            run = found[0] if found else self.client.create_run(experiment, start, tags, name)
            self.journal.acknowledge(run_id=run.info.run_id, experiment_id=experiment)
            return
        run_id = self.run_id or str(line["run_id"])
        try:
            run = self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise UsageError(f"tracking.uri={self.uri!r} does not hold the MLflow run {run_id}") from error
        self.client.update_run(run_id, status="RUNNING")
        for tag in (Tag.ERROR, Tag.INTERRUPTION):  # of its earlier end
            if tag in run.data.tags:
                self.client.delete_tag(run_id, tag)
        self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in _texts(line).items()])
        self.journal.acknowledge(run_id=run_id, experiment_id=run.info.experiment_id)

    def _send_tags(self, texts: Mapping[str, str]) -> None:
        if Tag.NOTE in texts and not is_own(self.client.get_run(self.run_id).data.tags.get(Tag.NOTE, "")):
            texts = {key: value for key, value in texts.items() if key != Tag.NOTE}  # somebody has described it
        if texts:
            self.client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in texts.items()])

    def _send_metrics(self, entries: list[Metric]) -> None:
        if self.doubtful:
            there = {
                identity(entry)
                for key in {entry.key for entry in entries}
                for entry in self.client.get_metric_history(self.run_id, key)
            }
            entries = [entry for entry in entries if identity(entry) not in there]
        for start in range(0, len(entries), LARGEST_BATCH):
            self.client.log_batch(self.run_id, metrics=entries[start : start + LARGEST_BATCH])

    def _send_model(self, line: Line, folder: Path) -> None:
        """Create the model, tell its own folder under which name, and let the run point to it."""
        experiment = self.journal.acknowledged.experiment_id
        about = _texts(line, "dataset") if "dataset" in line else {}  # which an older version did not tell
        dataset = (about["name"], about["digest"]) if about else None
        parts = _texts(line), _texts(line, "parameters"), metrics_of(line), dataset
        kept = KeptModel(str(line["name"]), folder, *parts)
        condition = f"tags.`{Tag.RECORDED}` = '{kept.tags[Tag.RECORDED]}'"
        found = self.client.search_logged_models([experiment], condition) if self.doubtful else []
        model = found[0] if found else create_model(self.client, experiment, self.run_id, kept)
        fill_model(self.client, model, self.run_id, kept)
        self.journal.acknowledge(model_id=model.model_id)


def metrics_of(line: Line) -> list[Metric]:
    """Return the metrics of a line."""
    return [Metric(str(key), float(value), int(time), int(step)) for key, value, time, step in _entries(line)]


def now() -> int:
    """Return the time as MLflow keeps it: milliseconds since 1970."""
    return int(time.time() * 1000)


def dataset_of(line: Line) -> DatasetInput:
    """Return the dataset of a line, as the run is to name it."""
    about, context = _texts(line, "dataset"), _texts(line)
    return DatasetInput(Dataset(**about), [InputTag(key, value) for key, value in context.items()])


def _entries(line: Line) -> list[tuple[str, float, int, int]]:
    entries = line.get("entries", [])
    assert isinstance(entries, list)
    return entries


def _texts(line: Line, key: str = "texts") -> dict[str, str]:
    texts = line[key]
    assert isinstance(texts, dict)
    return texts


def identity(entry: Metric) -> tuple[str, str, int, int]:
    """Return what tells two entries of one run apart; not a number is equal to itself here."""
    return entry.key, repr(entry.value), entry.timestamp, entry.step
