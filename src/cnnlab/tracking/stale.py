"""Runs that nobody ended: a process that is killed, or whose machine loses power, leaves its run RUNNING."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

import mlflow
from mlflow.entities import Run, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from cnnlab.living import is_dead, this_process
from cnnlab.start import typed
from cnnlab.tracking.descriptions import command, description, ending_line, is_own
from cnnlab.tracking.schema import Metric, Role, Tag
from cnnlab.tracking.store import locked, remove_reserves, sqlite_file, tell

GONE = "none: its process is gone"  # of the tag that names the signal
RUNNING = "attributes.status = 'RUNNING'"


def process_tags() -> dict[str, str]:
    """Return the tags that tell later whether this process, which has a run open, still lives."""
    return {Tag.PROCESS: this_process()}


def end_stale_runs(uri: str) -> list[str]:
    """Mark the runs KILLED whose process on this machine is gone, and remove what it held; return a line for each.

    Of a store that was opened. Runs of other machines, and those that do not say whose they are, stay as they are. A
    store that cannot be written, or does not answer any more, is left alone.
    """
    if (file := sqlite_file(uri)) is not None and not file.is_file():
        return []
    client = mlflow.MlflowClient(uri)
    lines = []
    with suppress(MlflowException, SQLAlchemyError, OSError):
        if file is not None:
            remove_reserves(file)
        if stale_runs(client):
            with locked(uri):  # two commands that begin at once: one ends them
                for run in stale_runs(client):
                    _end(client, run)
                    lines.append(_line(run))
    return lines


def tell_stale_runs(uri: str) -> None:
    """Do the same, and print the lines on stderr."""
    tell(end_stale_runs(uri))


def stale_runs(client: mlflow.MlflowClient) -> list[Run]:
    """Return the runs whose process on this machine is gone; one query where nothing runs."""
    experiments = [item.experiment_id for item in client.search_experiments()]
    running = client.search_runs(experiments, f"{RUNNING} and tags.{Tag.PROCESS} LIKE '%'")
    return [run for run in running if is_dead(run.data.tags[Tag.PROCESS])]


def _end(client: mlflow.MlflowClient, run: Run) -> None:
    """End a run at the moment it last told of itself: nobody knows when its process went."""
    run_id = run.info.run_id
    told = [item.timestamp for item in client.get_metric_history(run_id, Metric.EPOCH_SECONDS)]
    tags = {str(Tag.INTERRUPTION): GONE}
    if is_own(run.data.tags.get(Tag.NOTE, "")):
        tags[str(Tag.NOTE)] = description(ending_line("KILLED", tags), command(run.data.tags))
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
    client.set_terminated(run_id, "KILLED", max([run.info.start_time, *told]))


def _line(run: Run) -> str:
    role = run.data.tags.get(Tag.ROLE)
    began = datetime.fromtimestamp(run.info.start_time / 1000)
    when = f"{began:%H:%M}" if began.date() == datetime.now().date() else f"{began:%Y-%m-%d %H:%M}"
    said = f"run {run.info.run_id} ({run.info.run_name}) of {when} ended without a word: marked KILLED"
    if role is None:
        return f"{said}; continue it: {typed('train')} resume={run.info.run_id}"
    if role in (Role.SWEEP, Role.COMPARISON):
        return f"{said}; continue it by the same command: {run.data.tags.get(Tag.COMMAND, '')}"
    return said
