"""Runs found again: by id, by the start of an id, or as the best one of a dataset."""

from __future__ import annotations

import atexit
import gc
import shutil
import tempfile
from difflib import get_close_matches
from pathlib import Path
from urllib.request import url2pathname

import mlflow
import yaml
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from cnnlab.errors import UsageError, one_line
from cnnlab.tracking.reach import check_reachable
from cnnlab.tracking.registry import MARK, registered_run
from cnnlab.tracking.schema import SETTINGS_FILE, Metric, Tag, is_result
from cnnlab.tracking.store import check_address, connect, settle, sqlite_file, told_errors

SHORTEST_START = 6  # characters of an id that may stand for all of it
BEST, LAST = "best", "last"


def open_client(uri: str) -> mlflow.MlflowClient:
    """Return a client of a store that exists; raises UsageError where nothing was tracked yet or it is damaged."""
    file = sqlite_file(uri)
    if file is not None and not file.is_file():
        raise UsageError(
            f"tracking.uri={uri!r} holds no runs yet: {file} does not exist; train first, or name the store"
        )
    if file is None and (problems := check_address(uri)):
        raise UsageError(*problems)
    settle(uri)
    check_reachable(uri)
    connect(uri)
    with told_errors(uri):
        return mlflow.MlflowClient(uri)


def search(filter_string: str = "", order_by: list[str] | None = None, *, deleted: bool = False) -> list[Run]:
    """Return the runs of all experiments that pass MLflow's filter, the latest first unless `order_by` says otherwise.

    With `deleted` also those that were deleted, alone or with their experiment, and not yet swept up by `mlflow gc`.
    Of the store that was opened last. Raises UsageError for a store out of reach.
    """
    gc.disable()  # a search makes hundreds of objects a run, and the collector would visit them all again and again
    try:
        view = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
        experiments = [item.experiment_id for item in mlflow.search_experiments(view_type=view)]
        found = mlflow.search_runs(
            experiments, filter_string, view, order_by=order_by, output_format="list", search_all_experiments=True
        )
    except (MlflowException, SQLAlchemyError) as error:
        raise UsageError(f"the tracking store cannot be read: {one_line(error)}") from error
    finally:
        gc.enable()
    assert isinstance(found, list)
    return found


def results(condition: str | None = None, order_by: list[str] | None = None) -> list[Run]:
    """Return the runs that are results: those of train.py and the winners of sweeps, not trials and not sweeps."""
    conditions = [f"tags.{Tag.SETTINGS} IS NOT NULL", *([condition] if condition else [])]
    return [run for run in search(" and ".join(conditions), order_by) if is_result(run.data.tags)]


def find_run(
    client: mlflow.MlflowClient,
    wanted: str,
    dataset: str | None = None,
    model: str | None = None,
    *,
    key: str = "run",
    besides: str | None = None,
) -> Run:
    """Return the run with the id `wanted`; for 'best' the finished one with the highest validation accuracy, for 'last'
    the latest that has ended, however it did, for 'mnist@champion' the one whose registered model has that alias.

    `dataset` and `model` narrow the choice of the best and the last; the last is none of the multirun `besides`. `key`
    is what the user has typed. Raises UsageError, naming the nearest runs, for an unknown id.
    """
    if MARK in wanted:
        return registered_run(client, wanted, key)
    if wanted == BEST:
        return _best_run(dataset, model, key)
    return _last_run(dataset, model, key, besides) if wanted == LAST else run_with_id(client, wanted, key)


def kept_settings(client: mlflow.MlflowClient, run: Run) -> dict[str, object] | None:
    """Return the settings that a run has kept, as plain values; None where it kept none, as trials do not.

    They are data: whoever reads them must not call what they name. Raises UsageError for a file that is no text.
    """
    text = kept_text(client, run, SETTINGS_FILE)
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        values = None
    return {str(key): value for key, value in values.items()} if isinstance(values, dict) else None


def kept_text(client: mlflow.MlflowClient, run: Run, name: str) -> str:
    """Return a text that a run has kept, nothing where it kept none; raises UsageError for a file that is no text."""
    if not any(item.path == name for item in client.list_artifacts(run.info.run_id)):
        return ""
    try:
        return artifact_file(client, run, name).read_text(encoding="utf-8")
    except ValueError as error:
        raise UsageError(f"run={run.info.run_id}: its {name} cannot be read: {one_line(error)}") from error


def artifact_file(client: mlflow.MlflowClient, run: Run, name: str) -> Path:
    """Return the file of an artifact, to be read alone: itself on this machine, or a copy that this process removes."""
    folder = artifact_folder(run)
    if folder is not None and (folder / name).is_file():
        return folder / name
    copies = tempfile.mkdtemp(prefix="cnnlab-")
    atexit.register(shutil.rmtree, copies, ignore_errors=True)
    return Path(client.download_artifacts(run.info.run_id, name, copies))


def artifact_folder(run: Run) -> Path | None:
    """Return where a run's artifacts lie on this machine; None where a server keeps them."""
    address = str(run.info.artifact_uri)
    if address.startswith("file:"):
        return Path(url2pathname(address.removeprefix("file://")))
    return Path(address) if address.startswith("/") else None


def download_checkpoint(client: mlflow.MlflowClient, run: Run, key: str = "run") -> Path:
    """Return the run's checkpoint as a local file; raises UsageError, naming the setting `key`, where it kept none."""
    files = [item.path for item in client.list_artifacts(run.info.run_id, "checkpoints") if item.path.endswith(".ckpt")]
    if not files:
        raise UsageError(f"{key}={run.info.run_id} ({run.info.run_name}, {run.info.status}) has kept no checkpoint")
    return artifact_file(client, run, sorted(files)[-1])


def run_with_id(client: mlflow.MlflowClient, wanted: str, key: str = "run") -> Run:
    """Return the run with this id, or with the only one that begins so.

    Raises UsageError, naming the setting `key` and the nearest runs, where there is none.
    """
    try:
        return client.get_run(wanted)
    except MlflowException:
        pass  # perhaps the start of an id
    names = {run.info.run_id: str(run.info.run_name) for run in search()}
    same_start = [run_id for run_id in names if len(wanted) >= SHORTEST_START and run_id.startswith(wanted)]
    if len(same_start) == 1:
        return client.get_run(same_start[0])
    if not names:
        raise UsageError(f"{key}={wanted!r} is unknown: the tracking store holds no runs yet")
    by_name = [run_id for run_id, name in names.items() if name in get_close_matches(wanted, names.values(), 3, 0.6)]
    near = same_start or get_close_matches(wanted, names, 3, 0.5) or by_name
    shown = ", ".join(f"{run_id} ({names[run_id]})" for run_id in (near or list(names))[:3])
    hint = f"did you mean {shown}?" if near else f"the latest are {shown}"
    allowed = "a run's id, or a file" if key == "init_from" else "a run's id, best or last"
    raise UsageError(f"{key}={wanted!r} is unknown; allowed: {allowed}; {hint}")


def _best_run(dataset: str | None, model: str | None, key: str) -> Run:
    order = [f"metrics.`{Metric.BEST_VAL_ACCURACY}` DESC", f"metrics.`{Metric.BEST_VAL_LOSS}` ASC"]
    for run in results(" and ".join(["attributes.status = 'FINISHED'", *_narrowed(dataset, model)]), order):
        if Metric.BEST_VAL_ACCURACY in run.data.metrics:
            return run
    raise _none_found(f"{key}={BEST}", dataset, model, "no finished run with a validation split")


def _last_run(dataset: str | None, model: str | None, key: str, besides: str | None) -> Run:
    for run in results(" and ".join(_narrowed(dataset, model)) or None):
        if run.info.status != "RUNNING" and (besides is None or run.data.tags.get(Tag.MULTIRUN) != besides):
            return run
    raise _none_found(f"{key}={LAST}", dataset, model, "no run that has ended")


def _narrowed(dataset: str | None, model: str | None) -> list[str]:
    wanted = {Tag.DATASET: dataset, Tag.MODEL: model}
    return [f"tags.{key} = '{value}'" for key, value in wanted.items() if value is not None]


def _none_found(asked: str, dataset: str | None, model: str | None, what: str) -> UsageError:
    wanted = {Tag.DATASET: dataset, Tag.MODEL: model}
    given = "".join(f" {key}={value}" for key, value in wanted.items() if value is not None)
    known = {key: {run.data.tags.get(key) for run in results()} - {None} for key in wanted}
    seen = "; ".join(f"{key}: {', '.join(sorted(map(str, values)))}" for key, values in known.items() if values)
    return UsageError(f"{asked}{given}: {what}; tracked are {seen or 'no runs at all'}")
