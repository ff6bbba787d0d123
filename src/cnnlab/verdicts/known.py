"""Runs that are tracked already and are what a training of a side would be: same settings, data and code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlflow
from mlflow.entities import Run

from cnnlab.beginning import settings_tags
from cnnlab.errors import UsageError
from cnnlab.kept_predictions import Kept, read
from cnnlab.tracking.find import artifact_file, kept_text, open_client, results
from cnnlab.tracking.provenance import code_tags, machine_tags, uncommitted_diff
from cnnlab.tracking.schema import DIFF_FILE, PREDICTIONS_FILE, VALIDATION, VALIDATION_PREDICTIONS_FILE, VERSION, Tag
from cnnlab.verdicts.sides import Side


def known_runs(side: Side, numbers: list[int], metric: str, folds_of: int | None = None) -> dict[int, Run]:
    """Return the finished runs that are the side's trainings, by seed; of several the latest.

    By fold instead where `folds_of` names the seed that all folds are trained with.

    They have the side's settings, images, kind of device, versions of cnnlab's code and of packages, the metric, and
    the predictions that a comparison looks at. With code of a user's own also the commit and the uncommitted changes of
    the current folder; outside a checkout none are taken then.
    """
    try:
        client = open_client(side.settings.tracking.uri)
    except UsageError:  # nothing was tracked yet
        return {}
    code = code_tags(Path.cwd()) if side.own else {}
    if side.own and not code:
        return {}
    wanted = wanted_tags(side) | ({Tag.COMMIT: code[Tag.COMMIT]} if code else {})
    diff = uncommitted_diff(Path.cwd()) if code else None
    found: dict[int, Run] = {}
    for run in results(f"tags.{Tag.SETTINGS} = '{side.digest}' and attributes.status = 'FINISHED'"):
        tags = run.data.tags
        # The fold is no part of the settings' digest, as the seed is none.
        varied, fixed = (Tag.SEED, Tag.FOLD) if folds_of is None else (Tag.FOLD, Tag.SEED)
        same = settings_tags(side.settings).get(Tag.FOLD) if folds_of is None else str(folds_of)
        number = tags.get(varied, "")
        if not number.isdigit() or int(number) not in numbers or int(number) in found or tags.get(fixed) != same:
            continue
        if metric not in run.data.metrics:
            continue
        device = str(side.plan.trainer.strategy.root_device)
        if tags.get(Tag.DEVICE, "").split(":")[0] != device.split(":")[0]:
            continue
        if any(tags.get(key) != value for key, value in wanted.items()) or not same_images(run, side, metric):
            continue
        if (diff is None or kept_text(client, run, DIFF_FILE) == diff) and has_predictions(client, run, metric):
            found[int(number)] = run
    return found


def wanted_tags(side: Side) -> dict[str, str]:
    """Return the tags of versions that a run has to have."""
    machine = machine_tags(str(side.plan.trainer.strategy.root_device))
    return {key: value for key, value in machine.items() if key.startswith(VERSION) or key == Tag.SOURCE}


def same_images(run: Run, side: Side, metric: str) -> bool:
    """Return whether a run had the side's images; the test images count where the metric is of them."""
    if metric.startswith(VALIDATION):
        return run.data.tags.get(Tag.TRAINING_IMAGES) == side.plan.data.training_digest
    return data_digest(run) == side.plan.data.digest


def data_digest(run: Run) -> str | None:
    """Return the digest of the images that a run was trained on."""
    return next((item.dataset.digest for item in _lineage(run)), None)


def _lineage(run: Run) -> Iterator[mlflow.entities.DatasetInput]:
    yield from run.inputs.dataset_inputs if run.inputs else ()


def predictions_file(metric: str) -> str:
    """Return the artifact with the predictions of the split that a metric is of."""
    return VALIDATION_PREDICTIONS_FILE if metric.startswith(VALIDATION) else PREDICTIONS_FILE


def kept_of(client: mlflow.MlflowClient, run: Run, metric: str) -> Kept:
    """Return the predictions that a run has kept of the metric's split; raises UsageError where it kept none."""
    name = predictions_file(metric)
    if not has_predictions(client, run, metric):
        raise UsageError(f"run {run.info.run_id} ({run.info.run_name}) has kept no {name}")
    return read(artifact_file(client, run, name), f"{name} of run {run.info.run_id}")


def has_predictions(client: mlflow.MlflowClient, run: Run, metric: str) -> bool:
    """Return whether a run has kept its predictions of the metric's split."""
    return any(item.path == predictions_file(metric) for item in client.list_artifacts(run.info.run_id))
