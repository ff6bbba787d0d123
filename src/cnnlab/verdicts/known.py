"""Runs that are tracked already and are what a training of a side would be: same settings, data and code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlflow
from mlflow.entities import Run

from cnnlab.errors import UsageError
from cnnlab.settings.base import flatten
from cnnlab.tracking.find import kept_text, open_client, results
from cnnlab.tracking.provenance import code_tags, machine_tags, uncommitted_diff
from cnnlab.tracking.schema import DIFF_FILE, PREDICTIONS_FILE, VALIDATION, VALIDATION_PREDICTIONS_FILE, VERSION, Tag
from cnnlab.verdicts.sides import Side


def known_runs(side: Side, seeds: list[int], metric: str) -> dict[int, Run]:
    """Return the finished runs that are the side's trainings, by seed; of several the latest.

    They have the side's settings, data, kind of device, versions, commit and uncommitted changes, the metric, and the
    predictions that a comparison looks at. Code of a user's own is known by git alone: without it none are taken.
    """
    try:
        client = open_client(side.settings.tracking.uri)
    except UsageError:  # nothing was tracked yet
        return {}
    code = code_tags(Path.cwd())
    if not code and any(key.endswith("_target_") for key in flatten(side.settings.plain())):
        return {}
    diff: str | None = None
    found: dict[int, Run] = {}
    for run in results(f"tags.{Tag.SETTINGS} = '{side.digest}' and attributes.status = 'FINISHED'"):
        seed = run.data.tags.get(Tag.SEED, "")
        if not seed.isdigit() or int(seed) not in seeds or int(seed) in found or metric not in run.data.metrics:
            continue
        if not _tags_agree(run, side, code) or data_digest(run) != side.plan.data.digest:
            continue
        diff = uncommitted_diff(Path.cwd()) if diff is None else diff
        if kept_text(client, run, DIFF_FILE) == diff and has_predictions(client, run, metric):
            found[int(seed)] = run
    return found


def _tags_agree(run: Run, side: Side, code: dict[str, str]) -> bool:
    machine = machine_tags(str(side.plan.trainer.strategy.root_device))
    wanted = {key: value for key, value in machine.items() if key.startswith(VERSION) or key == Tag.PYTHON}
    wanted |= {Tag.COMMIT: code[Tag.COMMIT]} if code else {}
    tags = run.data.tags
    device = tags.get(Tag.DEVICE, "").split(":")[0] == machine[Tag.DEVICE].split(":")[0]
    return device and all(tags.get(key) == value for key, value in wanted.items())


def data_digest(run: Run) -> str | None:
    """Return the digest of the images that a run was trained on."""
    return next((item.dataset.digest for item in _lineage(run)), None)


def _lineage(run: Run) -> Iterator[mlflow.entities.DatasetInput]:
    yield from run.inputs.dataset_inputs if run.inputs else ()


def predictions_file(metric: str) -> str:
    """Return the artifact with the predictions of the split that a metric is of."""
    return VALIDATION_PREDICTIONS_FILE if metric.startswith(VALIDATION) else PREDICTIONS_FILE


def has_predictions(client: mlflow.MlflowClient, run: Run, metric: str) -> bool:
    """Return whether a run has kept its predictions of the metric's split."""
    return any(item.path == predictions_file(metric) for item in client.list_artifacts(run.info.run_id))
