"""The ledger of the test splits: every reading of one, kept as a tag of the run that was measured.

A tag a reading: two readings at once lose none, and a text that grows would be cut.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Literal

import mlflow
from mlflow.entities import Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags

from cnnlab.errors import UsageError, one_line
from cnnlab.tracking.schema import READING, Metric, Role, Tag
from cnnlab.tracking.store import prepare, sqlite_file

Door = Literal["train", "sweep", "compare", "evaluate"]


@dataclass(frozen=True)
class Reading:
    """One look at a test split: through which command, of which data, with which settings.

    `data` is the digest of the whole dataset, `test` that of the images that were read, '' where a run of an older
    version does not say; `settings` is the digest of the run's.
    """

    door: Door
    dataset: str
    data: str
    test: str
    images: int
    settings: str
    time: str = ""

    def tags(self) -> dict[str, str]:
        """Return the tag that keeps the reading; its name is the moment, in microseconds, as that of no other is."""
        now = datetime.now(UTC)
        values = asdict(self) | {"time": now.isoformat(timespec="seconds")}
        return {f"{READING}{now:%Y%m%dT%H%M%S.%f}": json.dumps(values)}


def record(uri: str, run_id: str | None, reading: Reading, *, unseals: bool = False) -> str:
    """Keep a reading before it takes place; return what is to be said about it.

    A checkpoint file belongs to no run: a run of its own keeps its reading, where there is a store. Raises UsageError
    where the store takes none, unless it can only be read; nothing is unsealed there.
    """
    file = sqlite_file(uri)
    if run_id is None and file is not None and not file.is_file():
        return f"no run is named and there is no store at {file}: nobody counts this reading of the test split"
    if file is not None and not os.access(file, os.W_OK):
        if unseals:
            raise UsageError(f"the run cannot say that its test split was opened: {file} cannot be written")
        return f"{file} cannot be written: nobody counts this reading of the test split"
    client = mlflow.MlflowClient(uri)
    try:
        if run_id is not None:
            client.log_batch(run_id, tags=[RunTag(key, value) for key, value in reading.tags().items()])
            return ""
        own = {Tag.ROLE: Role.READING, Tag.DATASET: reading.dataset, Tag.SETTINGS: reading.settings}
        kept = resolve_tags({**{str(key): str(value) for key, value in own.items()}, **reading.tags()})
        run = client.create_run(prepare(uri, reading.dataset), tags=kept, run_name="a checkpoint file, tested")
        client.set_terminated(run.info.run_id)
        return f"run {run.info.run_id} keeps that the test split was read"
    except MlflowException as error:
        raise UsageError(f"this reading of the test split cannot be kept in {uri}: {one_line(error)}") from error


def readings_of(run: Run) -> list[Reading]:
    """Return the readings a run keeps; of one of an older version, which kept none, the one at its training's end."""
    tags = run.data.tags
    data = next((item.dataset for item in run.inputs.dataset_inputs), None) if run.inputs else None
    images = json.loads((data.profile if data else "") or "{}").get("test", 0)
    name, settings = tags.get(Tag.DATASET, ""), tags.get(Tag.SETTINGS, run.info.run_id)
    then = datetime.fromtimestamp((run.info.end_time or run.info.start_time) / 1000, UTC)
    trained = Reading("train", name, data.digest if data else "", "", images, settings, then.isoformat())
    found = [_kept(value, trained) for key, value in tags.items() if key.startswith(READING)]
    kept_none = all(reading.door == "evaluate" for reading in found)
    if Metric.TEST_ACCURACY in run.data.metrics and kept_none and Tag.SEALED not in tags:
        found.append(trained)
    return found


def _kept(text: str, otherwise: Reading) -> Reading:
    """Return the reading of a tag; one that somebody has altered counts all the same, as what the run itself says."""
    try:
        reading = Reading(**json.loads(text))
    except (ValueError, TypeError):
        return replace(otherwise, door="evaluate")
    return replace(reading, settings=reading.settings or otherwise.settings)
