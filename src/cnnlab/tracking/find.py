"""Runs found again: by id, by the start of an id, or as the best one of a dataset."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path

import mlflow
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from cnnlab.errors import UsageError
from cnnlab.tracking.store import patience_of_seconds, sqlite_file

PAGE = 1000  # runs a request
SHORTEST_START = 6  # characters of an id that may stand for all of it
BEST = "best"
ROLE_TAG = "sweep.role"  # of the runs of a sweep: what each is there for
WINNERS = ("final", "winner")  # the roles of runs that are results, like any other run


def open_client(uri: str) -> mlflow.MlflowClient:
    """Return a client of a store that exists; raises UsageError where nothing was tracked yet."""
    file = sqlite_file(uri)
    if file is not None and not file.is_file():
        raise UsageError(
            f"tracking.uri={uri!r} holds no runs yet: {file} does not exist; train first, or name the store"
        )
    mlflow.set_tracking_uri(uri)
    return mlflow.MlflowClient(uri)


def all_runs(client: mlflow.MlflowClient, filter_string: str = "", order_by: list[str] | None = None) -> Iterator[Run]:
    """Yield the runs of all experiments page by page, the latest first; raises UsageError for a store out of reach."""
    try:
        with patience_of_seconds():
            experiments = [item.experiment_id for item in client.search_experiments(view_type=ViewType.ACTIVE_ONLY)]
            token = None
            while True:
                page = client.search_runs(
                    experiments, filter_string, max_results=PAGE, order_by=order_by, page_token=token
                )
                yield from page
                token = page.token
                if not token:
                    return
    except MlflowException as error:
        raise UsageError(f"the tracking store cannot be read: {str(error).splitlines()[0]}") from error


def find_run(client: mlflow.MlflowClient, wanted: str, dataset: str | None, model: str | None) -> Run:
    """Return the run with the id `wanted`, or for 'best' the finished one with the highest validation accuracy.

    `dataset` and `model` narrow the choice of the best. Raises UsageError, naming the nearest runs, for an unknown id.
    """
    return _best_run(client, dataset, model) if wanted == BEST else _run_by_id(client, wanted)


def is_result(tags: Mapping[str, str]) -> bool:
    """Return whether a run with these tags is a result: any run but a sweep's trials and the sweep itself."""
    if ROLE_TAG in tags:
        return tags[ROLE_TAG] in WINNERS
    return MLFLOW_PARENT_RUN_ID not in tags


def download_checkpoint(client: mlflow.MlflowClient, run: Run) -> Path:
    """Return the run's checkpoint as a local file; raises UsageError where it kept none."""
    files = [item.path for item in client.list_artifacts(run.info.run_id, "checkpoints") if item.path.endswith(".ckpt")]
    if not files:
        raise UsageError(f"run={run.info.run_id} ({run.info.run_name}, {run.info.status}) has kept no checkpoint")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    return Path(client.download_artifacts(run.info.run_id, sorted(files)[-1]))


def _run_by_id(client: mlflow.MlflowClient, wanted: str) -> Run:
    try:
        return client.get_run(wanted)
    except MlflowException:
        pass  # perhaps the start of an id
    names = {run.info.run_id: str(run.info.run_name) for run in all_runs(client)}
    same_start = [run_id for run_id in names if len(wanted) >= SHORTEST_START and run_id.startswith(wanted)]
    if len(same_start) == 1:
        return client.get_run(same_start[0])
    if not names:
        raise UsageError(f"run={wanted!r} is unknown: the tracking store holds no runs yet")
    by_name = [run_id for run_id, name in names.items() if name in get_close_matches(wanted, names.values(), 3, 0.6)]
    near = same_start or get_close_matches(wanted, names, 3, 0.5) or by_name
    shown = ", ".join(f"{run_id} ({names[run_id]})" for run_id in (near or list(names))[:3])
    hint = f"did you mean {shown}?" if near else f"the latest are {shown}"
    raise UsageError(f"run={wanted!r} is unknown; allowed: a run's id, or best; {hint}")


def _best_run(client: mlflow.MlflowClient, dataset: str | None, model: str | None) -> Run:
    wanted = {"dataset": dataset, "model": model}
    conditions = ["attributes.status = 'FINISHED'"]
    conditions += [f"tags.{key} = '{value}'" for key, value in wanted.items() if value is not None]
    order = ["metrics.`best/val/acc` DESC", "metrics.`best/val/loss` ASC"]
    for run in all_runs(client, " and ".join(conditions), order):
        # A trial was trained to be compared, not to be kept; the sweep's own run trained nothing.
        if "best/val/acc" in run.data.metrics and is_result(run.data.tags):
            return run
    given = " ".join(f"{key}={value}" for key, value in wanted.items() if value is not None)
    known = {key: {run.data.tags.get(key) for run in all_runs(client)} - {None} for key in wanted}
    seen = "; ".join(f"{key}: {', '.join(sorted(map(str, values)))}" for key, values in known.items() if values)
    raise UsageError(
        f"run=best {given}: no finished run with a validation split; tracked are {seen or 'no runs at all'}"
    )
