"""The tracking store: created once, safely, before anything runs in parallel.

MLflow's SQLite file breaks when several processes meet an absent database ("duplicate column name"), and so does an
experiment that two create at once. Both happen here, under a file lock.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from cnnlab import process
from cnnlab.errors import UsageError, disk_is_full, one_line
from cnnlab.start import typed
from cnnlab.tracking import database, moved
from cnnlab.tracking.reach import check_reachable, is_server
from cnnlab.tracking.shared_rows import tag_experiment
from cnnlab.tracking.views import MADE, VERSION, experiment_tags, missing_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"
DEFAULT = "sqlite:///mlruns/mlflow.db"
RESERVE = 256 * 1024  # bytes
RESERVED = ".reserve-"  # + process
ALLOWED = "allowed: sqlite:///FILE, http(s)://SERVER, or a database MLflow knows (postgresql://, mysql://)"


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a `sqlite:///` address, or None for any other address."""
    return Path(unquote(uri[len(SQLITE) :].split("?")[0])).absolute() if uri.startswith(SQLITE) else None


def absolute_uri(uri: str) -> str:
    """Return an address that means the same store from any folder."""
    file = sqlite_file(uri)
    return uri_of(file) if file else uri


def uri_of(file: Path) -> str:
    """Return the address of a SQLite file; it may hold `%20`, but a file's name that does has to hide it."""
    return SQLITE + str(file.absolute()).replace("%", "%25").replace("?", "%3F")


def default_uri() -> str:
    """Return the address that conf/tracking/store.yaml has, for commands that compose no configuration."""
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT


def page_of(uri: str, experiment_id: str, run_id: str) -> str:
    """Return how to open a run in MLflow's pages; without the mode they open as those of a chat application."""
    page = f"#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"
    if is_server(uri):
        return f"{uri.rstrip('/')}/{page}"
    return f"{typed('ui')}, then http://127.0.0.1:5000/{page}"


def check_address(uri: str) -> list[str]:
    """Return what can be seen to be wrong with a tracking address without creating anything."""
    if "***@" in uri:
        return [f"tracking.uri={uri!r} has its password hidden; set MLFLOW_TRACKING_URI to the whole address"]
    if (file := sqlite_file(uri)) is not None:
        if file.is_dir():
            return [f"tracking.uri={uri!r} is a folder; name the file in it, such as {uri_of(file / 'mlflow.db')}"]
        there = next(folder for folder in (file, *file.parents) if folder.exists())
        if there != file and not there.is_dir():
            return [f"tracking.uri={uri!r}: cannot write to {file.parent} ({there} is a file); choose another folder"]
        if os.access(there, os.W_OK):
            return []
        return [f"tracking.uri={uri!r}: cannot write to {there} (Permission denied); choose another folder"]
    if urlsplit(uri).scheme.split("+")[0] in ("http", "https", "postgresql", "mysql", "mssql", "databricks"):
        return []
    return [f"tracking.uri={uri!r} is not an address cnnlab can write to; {ALLOWED}"]


def connect(uri: str) -> None:
    """Let MLflow's own functions mean this store, in this process.

    MLflow would write it into the environment too, where the next call of the library took it for the user's choice.
    """
    import mlflow

    name = "MLFLOW_TRACKING_URI"
    given = os.environ.get(name)
    mlflow.set_tracking_uri(uri)
    if given is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = given


def prepare(uri: str, experiment_name: str) -> str:
    """Create the store and the experiment where they are missing; return the experiment's id.

    A SQLite store keeps its artifacts in `artifacts/` beside the file; a server decides for itself. Raises UsageError
    where the store cannot be written, reached or read.
    """
    import mlflow
    from mlflow.entities import LifecycleStage

    if problems := check_address(uri):
        raise UsageError(*problems)
    settle(uri)
    check_reachable(uri)
    database.wait_longer()
    try:
        with told_errors(uri), locked(uri), process.uncollected():  # it imports the store
            if (file := sqlite_file(uri)) is not None:
                tell(database.bring_up_to_date(file))
            client = mlflow.MlflowClient(uri)
            experiment = client.get_experiment_by_name(experiment_name)
            if experiment is None:
                return _create_experiment(client, uri, experiment_name)
            if experiment.lifecycle_stage != LifecycleStage.DELETED:
                _give(client, experiment.experiment_id, experiment.tags)
    except OSError as error:
        if disk_is_full(error):
            raise
        folder = file.parent if (file := sqlite_file(uri)) else uri
        reason = error.strerror or one_line(error)
        raise UsageError(f"tracking.uri={uri!r}: cannot write to {folder} ({reason}); choose another folder") from error
    if experiment.lifecycle_stage == LifecycleStage.DELETED:
        raise UsageError(
            f"tracking.experiment_name={experiment_name!r} was deleted; restore it (mlflow experiments restore "
            f"--experiment-id {experiment.experiment_id}) or choose another name"
        )
    return experiment.experiment_id


@contextmanager
def told_errors(uri: str) -> Iterator[None]:
    """Turn what a store raises that cannot be opened or read into UsageError; OSError is left to the caller."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (OSError, UsageError):
        raise
    except MlflowException as error:
        raise UsageError(f"tracking.uri={uri!r}: {one_line(error)}") from error
    except Exception as error:  # SQLAlchemy's and its drivers' many errors: wrong file, wrong password, no such host
        raise UsageError(f"tracking.uri={uri!r} cannot be opened: {one_line(error)}") from error


def settle(uri: str) -> None:
    """Migrate a SQLite store of an older MLflow, and let one that was moved with its artifacts find them.

    What was done is said in a line on stderr. One read-only query where nothing is wrong. A moved database that cannot
    be written is left as it is, and that is said. Raises UsageError for one that cannot be migrated.
    """
    file = sqlite_file(uri)
    if file is None or not file.is_file():
        return
    try:
        with told_errors(uri):
            if database.needs_work(file):
                with locked(uri):
                    tell(database.bring_up_to_date(file))
    except OSError as error:
        raise UsageError(f"tracking.uri={uri!r}: {file} cannot be migrated ({error.strerror})") from error
    if not (found := moved.moves(file)):
        return
    try:
        with locked(uri):
            lines = moved.mend(file)
    except (OSError, sqlite3.Error) as error:
        why = f"{file} cannot be written ({getattr(error, 'strerror', None) or error})"
        lines = [f"{move.describe(file)}, but {why}: artifacts are looked for in the old folder" for move in found]
    tell(lines)


def tell(lines: Iterable[str]) -> None:
    """Print what was mended in the store, on stderr: stdout is what a command answers."""
    for line in lines:
        print(line, file=sys.stderr)


def _give(client: MlflowClient, experiment_id: str, present: Mapping[str, str]) -> None:
    """Give an experiment with these tags the views and the description it lacks."""
    for key, value in missing_tags(experiment_id, present).items():
        tag_experiment(client, experiment_id, key, value)


def _create_experiment(client: MlflowClient, uri: str, name: str) -> str:
    from mlflow.exceptions import MlflowException

    file = sqlite_file(uri)
    location = (file.parent / "artifacts" / name).as_uri() if file else None
    try:
        experiment_id = client.create_experiment(name, artifact_location=location, tags=experiment_tags())
        _give(client, experiment_id, {MADE: VERSION})
        return experiment_id
    except MlflowException as error:
        # A server has no lock of ours: somebody else may have been first.
        if error.error_code == "RESOURCE_ALREADY_EXISTS" and (found := client.get_experiment_by_name(name)):
            return found.experiment_id
        raise


@contextmanager
def locked(uri: str) -> Iterator[None]:
    """Hold the lock of a SQLite store; other stores guard themselves."""
    file = sqlite_file(uri)
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_name(f".{file.name}.lock")):
        yield


@contextmanager
def reserved_space(uri: str) -> Iterator[Callable[[], None]]:
    """Hold some disk space beside a SQLite store, and yield the function that frees it.

    A run that dies of a full disk still has to write that it failed, and for that it needs a few pages.
    """
    file = sqlite_file(uri)
    if file is None:
        yield lambda: None
        return
    reserve = file.with_name(f"{RESERVED}{os.getpid()}")
    with reserve.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # which the system takes back, however this process ends
        try:
            held.write(b"\0" * RESERVE)
            held.flush()
            yield lambda: os.truncate(reserve, 0)  # an unlinked file that is open keeps its space
        finally:
            reserve.unlink(missing_ok=True)


def remove_reserves(file: Path) -> list[Path]:
    """Remove the reserves beside a SQLite store whose processes were killed, and return them."""
    removed = []
    for reserve in file.parent.glob(f"{RESERVED}*"):
        with suppress(OSError), reserve.open("rb") as free:
            fcntl.flock(free, fcntl.LOCK_EX | fcntl.LOCK_NB)
            reserve.unlink()
            removed.append(reserve)
    return removed
