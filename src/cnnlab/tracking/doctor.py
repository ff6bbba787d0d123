"""What is well and what is wrong around a tracking store, and with the packages that cnnlab needs."""

from __future__ import annotations

import os
import platform
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path

import mlflow
from mlflow.entities import Run
from packaging.requirements import Requirement

from cnnlab.errors import UsageError, hidden, one_line
from cnnlab.start import CHECKOUT, typed
from cnnlab.tracking import database, moved
from cnnlab.tracking.find import artifact_folder, open_client, search
from cnnlab.tracking.schema import Tag
from cnnlab.tracking.stale import end_stale_runs
from cnnlab.tracking.store import check_address, remove_reserves, sqlite_file

LITTLE = 500 * 2**20  # bytes of a disk that will soon be full: a run with its model takes a few million
NAMED = 3  # runs named in a line


class Verdict(StrEnum):
    """What a finding means."""

    OK = "ok"
    NOTE = "note"  # worth knowing, nothing fails
    WRONG = "WRONG"


@dataclass(frozen=True)
class Finding:
    """One line about one thing."""

    what: str
    said: str
    verdict: Verdict = Verdict.OK


def examine(uri: str) -> Iterator[Finding]:
    """Yield a finding for each thing that is looked at."""
    yield from _store(uri)
    yield from _packages()


def _store(uri: str) -> Iterator[Finding]:
    file = sqlite_file(uri)
    if problems := check_address(uri):
        yield Finding("store", "; ".join(problems), Verdict.WRONG)
    else:
        yield Finding("store", hidden(uri))
    if file is not None:
        yield _disk(file)
        if not file.exists():
            yield Finding("runs", "none yet", Verdict.NOTE)
            return
    elif problems:
        return
    had_moved = bool(file and moved.moves(file))
    try:
        client = open_client(uri)
        runs = search()
        experiments = client.search_experiments()
        schema = database.revision(file) if file else None
    except UsageError as error:
        yield Finding("runs", "; ".join(error.problems), Verdict.WRONG)
        return
    except Exception as error:  # SQLAlchemy's and its drivers' many errors
        yield Finding("runs", f"the store cannot be read: {one_line(error)}", Verdict.WRONG)
        return
    used = {run.info.experiment_id for run in runs}
    names = sorted(item.name for item in experiments if item.experiment_id in used)
    yield Finding("runs", f"{len(runs):,} in {len(names)} experiments: {', '.join(names)}" if runs else "none yet")
    if file is not None:
        yield Finding("schema", f"{schema}, as MLflow {mlflow.__version__} has it")
        yield from _locations(file, had_moved)
    yield _artifacts(runs)
    yield from _left_over(uri, file, runs)


def _disk(file: Path) -> Finding:
    folder = next(folder for folder in file.parents if folder.exists())
    free = shutil.disk_usage(folder).free
    said = f"{folder}, {free / 2**30:.1f} GiB free"
    if not os.access(folder, os.W_OK):
        return Finding(
            "folder",
            f"{said}; cannot be written: make it writable, or name another by MLFLOW_TRACKING_URI",
            Verdict.WRONG,
        )
    if file.exists() and not os.access(file, os.W_OK):
        return Finding("folder", f"{said}; {file.name} cannot be written: chmod u+w {file}", Verdict.WRONG)
    if free < LITTLE:
        return Finding("folder", f"{said}: make room, a run takes a few MB and the database grows", Verdict.WRONG)
    return Finding("folder", said)


def _locations(file: Path, had_moved: bool) -> Iterator[Finding]:
    if moved.moves(file):
        yield Finding(
            "locations",
            f"of artifacts are another folder's: make {file} writable",
            Verdict.WRONG,
        )
        return
    yield Finding("locations", "of artifacts were mended just now" if had_moved else "of artifacts are right")
    for move in moved.all_moves(file):
        yield Finding("locations", f"{len(move.staying)} of artifacts that still lie in {move.source}", Verdict.NOTE)


def _artifacts(runs: list[Run]) -> Finding:
    """Look for the folders of the runs that keep their settings, as all but trials do from their first second on."""
    folders = [(run, artifact_folder(run)) for run in runs if Tag.SETTINGS in run.data.tags]
    local = [(run, folder) for run, folder in folders if folder is not None]
    lost = [run for run, folder in local if not folder.exists()]
    if lost:
        said = f"of {len(lost)} of {len(local)} runs are missing: {_named(lost)}"
        return Finding("artifacts", f"{said}; copy them back, or delete these runs in {typed('ui')}", Verdict.WRONG)
    return Finding("artifacts", f"of all {len(local)} runs that keep some on this machine are there")


def _left_over(uri: str, file: Path | None, runs: list[Run]) -> Iterator[Finding]:
    """Yield what processes that were killed have left behind, and was put in order just now."""
    if removed := remove_reserves(file) if file else []:
        yield Finding("left over", f"{len(removed)} reserves of killed runs, removed just now", Verdict.NOTE)
    for line in end_stale_runs(uri):
        yield Finding("left over", line, Verdict.NOTE)
    here = platform.node()
    running = [run for run in runs if run.info.status == "RUNNING" and run.data.tags.get(Tag.HOST, here) == here]
    if nobody := [run for run in running if Tag.PROCESS not in run.data.tags]:
        yield Finding("left over", f"RUNNING, and nobody knows whose: {_named(nobody)}", Verdict.NOTE)


def _named(runs: list[Run]) -> str:
    names = [f"{run.info.run_id} ({run.info.run_name})" for run in runs[:NAMED]]
    return ", ".join([*names, "..."] if len(runs) > NAMED else names)


def _packages() -> Iterator[Finding]:
    problems = []
    needed = [requirement for requirement in map(Requirement, requirements()) if _applies(requirement)]
    for requirement in needed:
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            problems.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            problems.append(f"{requirement.name} {version} is outside {requirement.specifier}")
    if problems:
        problems.append("mend it: pip install -r requirements.lock")
    said = "; ".join(problems) or f"{len(needed)} packages within their ranges, Python {platform.python_version()}"
    yield Finding("packages", said, Verdict.WRONG if problems else Verdict.OK)


def _applies(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def requirements() -> list[str]:
    """Return what cnnlab needs, as the checkout's pyproject.toml has it, or the installed package."""
    if CHECKOUT:
        return list(tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"])
    return metadata.requires("cnnlab") or []
