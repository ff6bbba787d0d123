"""A model that a run has kept: created under its run in MLflow, and tied to what the run reached with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlflow
import yaml
from mlflow.entities import LoggedModel, LoggedModelOutput, Metric
from mlflow.models.model import MLMODEL_FILE_NAME

from cnnlab.tracking.descriptions import UNKNOWN_ID
from cnnlab.tracking.schema import Tag

NOT_IN_NAMES = str.maketrans(dict.fromkeys("/:.%\"'", "_"))  # which MLflow refuses in the name of a model


@dataclass(frozen=True)
class KeptModel:
    """A model as its run keeps it: `folder` as MLflow writes models, `results` measured on the `dataset`.

    `dataset` is a name and a digest, as the run names its data.
    """

    name: str
    folder: Path
    tags: Mapping[str, str]
    parameters: Mapping[str, str]
    results: Sequence[Metric]
    dataset: tuple[str, str] | None


def model_name(run_name: str) -> str:
    """Return the name of the model of a run: the run's, as MLflow takes it."""
    return run_name.translate(NOT_IN_NAMES) or "model"


def create_model(client: mlflow.MlflowClient, experiment_id: str, run_id: str, kept: KeptModel) -> LoggedModel:
    """Create a model without its files, which are to follow."""
    tags, parameters = dict(kept.tags), dict(kept.parameters)
    return client.create_logged_model(experiment_id, kept.name, run_id, tags, parameters)


def fill_model(client: mlflow.MlflowClient, model: LoggedModel, run_id: str, kept: KeptModel) -> None:
    """Give a model its files, its run, and its run's results; all of it may have been begun before."""
    run = client.get_run(run_id)
    outputs = run.outputs.model_outputs if run.outputs else []
    if not any(output.model_id == model.model_id for output in outputs):
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    if note := kept.tags.get(Tag.NOTE):
        client.set_logged_model_tags(model.model_id, {str(Tag.NOTE): note.replace(UNKNOWN_ID, model.model_id)})
    # The same entries again, now with their model: MLflow keeps them once with the run and once with the model.
    name, digest = kept.dataset or (None, None)
    links = [
        Metric(entry.key, entry.value, entry.timestamp, entry.step, model.model_id, name, digest, run_id)
        for entry in kept.results
    ]
    if links:
        client.log_batch(run_id, metrics=links)
    _name_in_folder(kept.folder, model, run_id)
    client.log_model_artifacts(model.model_id, str(kept.folder))
    client.finalize_logged_model(model.model_id, "READY")


def _name_in_folder(folder: Path, model: LoggedModel, run_id: str) -> None:
    """Write into a model's own description what only the server could say: its id, its run and its place."""
    file = folder / MLMODEL_FILE_NAME
    about = yaml.safe_load(file.read_text(encoding="utf-8"))
    names = {"model_id": model.model_id, "model_uuid": model.model_id, "run_id": run_id}
    about |= names | {"artifact_path": model.artifact_location}
    file.write_text(yaml.safe_dump(about, sort_keys=False), encoding="utf-8")
