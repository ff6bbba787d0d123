"""MLflow's client, writing one run into a journal instead of to its server."""

from __future__ import annotations

import tempfile
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import mlflow
from mlflow.entities import DatasetInput, Metric, Param, RunTag
from mlflow.store.entities.paged_list import PagedList
from mlflow.tracking.context.registry import resolve_tags

from cnnlab.errors import hidden
from cnnlab.tracking.delivery import identity
from cnnlab.tracking.journal import Journal, Kind
from cnnlab.tracking.kept_model import KeptModel
from cnnlab.tracking.schema import Tag

REQUEST = 100  # parameters or tags that MLflow takes at once: a line is a request, of which one answer tells

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
            self.note(Kind.METRICS, entries=entries_of(metrics))

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

    def log_model_folder(self, kept: KeptModel) -> None:
        """Keep a model; the server gives it its id."""
        named = resolve_tags({**kept.tags, str(Tag.RECORDED): uuid.uuid4().hex})
        name, digest = kept.dataset or ("", "")
        self.note(
            Kind.MODEL,
            name=kept.name,
            kept=self.journal.keep(kept.folder),
            texts={key: hidden(value) for key, value in named.items()},
            parameters=self.parameters,
            entries=entries_of(kept.results),
            dataset={"name": name, "digest": digest} if kept.dataset else {},
        )


def entries_of(metrics: Sequence[Metric]) -> list[tuple[str, float, int, int]]:
    """Return metrics as a line has them."""
    return [(metric.key, metric.value, metric.timestamp, metric.step) for metric in metrics]


def batched(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Yield the items in order, so many at once."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
