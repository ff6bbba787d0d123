"""The database of all studies: one lock a study that every process of every machine respects, and owned trials."""

from __future__ import annotations

import copy
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import mlflow
import optuna
import sqlalchemy
from filelock import FileLock
from mlflow.exceptions import MlflowException
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from cnnlab.errors import UsageError, one_line
from cnnlab.living import this_process
from cnnlab.settings.sweep import Sweep
from cnnlab.tracking import database
from cnnlab.tracking.find import search
from cnnlab.tracking.schema import Tag
from cnnlab.tracking.store import sqlite_file

ALLOWED = "allowed: sqlite:///FILE (one machine), postgresql://USER:PASSWORD@HOST/DATABASE (any number)"
# User attributes of a trial.
OWNER = "owner"  # the process that runs it
RUN = "mlflow_run"
CONTINUES = "continues"  # the number of the trial, pruned or dead, that one goes on with
STATE = "state"  # the file a trial can be continued from, when it was pruned or has died
HISTORY = "retry_history"  # Optuna's own name for the numbers of the trials that one was queued in place of
SEED = "seed"  # the one parameter of a winner's trials
SIDE = "side"  # the other parameter of a comparison's
PART = "fold"  # in the place of the seed, where a comparison runs over folds
PARENT_RUN = "mlflow_run"  # user attribute of a study: the MLflow run of the sweep


class StudyLock:
    """Held with `with`, also within itself: a file beside a SQLite database, an advisory lock in PostgreSQL.

    Raises UsageError for any other address.
    """

    file_lock: FileLock | None = None
    engine: sqlalchemy.Engine | None = None
    taken: Callable[[], None] | None = None

    def __init__(self, url: str, name: str):
        file = sqlite_file(url)
        if problems := check_storage(url):
            raise UsageError(*problems)
        self.depth = 0
        if file is not None:
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UsageError(f"sweep.storage={url!r}: {file.parent} cannot be made ({error.strerror})") from error
            self.file_lock = FileLock(file.with_name(f".{file.name}.lock"))
        else:
            # Its own connection, closed after use: nothing else may end the session that holds the lock.
            self.engine = sqlalchemy.create_engine(driver_url(url), poolclass=sqlalchemy.pool.NullPool)
            self.key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), signed=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock over a block; wait for it first."""
        if self.file_lock is not None:
            with self.file_lock:
                yield
            return
        assert self.engine is not None
        if self.depth:
            yield
            return
        with self.engine.connect() as connection:
            connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": self.key})
            self.depth += 1
            try:
                yield
            finally:
                self.depth -= 1
                connection.execute(sqlalchemy.text("SELECT pg_advisory_unlock(:key)"), {"key": self.key})

    @contextmanager
    def held_until_taken(self) -> Iterator[None]:
        """Hold the lock over a block, but no longer than until a trial has been taken in it."""
        with ExitStack() as holding:
            holding.enter_context(self.held())
            self.taken = holding.close
            try:
                yield
            finally:
                self.taken = None


class SharedStorage(RDBStorage):
    """Optuna's database storage, in which a trial has its owner from its first moment.

    One that dies before its first heartbeat is not lost then. Trials are taken from the queue under the study's lock.
    Who fails the silent ones is `requeue_dead`, not Optuna, which fails a trial before it queues it again, and also
    one of this machine that lives and only waits for a disk that stands still, or has slept.
    """

    def __init__(self, settings: Sweep, lock: StudyLock):
        options: dict[str, object] = {"pool_pre_ping": True}
        if (file := sqlite_file(settings.storage)) is not None:
            with lock.held():
                database.make(file, lambda engine: RDBStorage(str(engine.url)).engine.dispose())
            options["connect_args"] = {"timeout": database.PATIENCE}
        super().__init__(
            driver_url(settings.storage),
            engine_kwargs=options,
            heartbeat_interval=settings.heartbeat,
            grace_period=settings.grace,
        )
        self.lock = lock

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        if state != TrialState.RUNNING:
            return super().set_trial_state_values(trial_id, state, values)
        with self.lock.held():
            if self.get_trial(trial_id).state != TrialState.WAITING:
                return False
            self.set_trial_user_attr(trial_id, OWNER, this_process())
            taken = super().set_trial_state_values(trial_id, state, values)
        self.record_heartbeat(trial_id)
        if taken and self.lock.taken is not None:
            self.lock.taken()  # what Optuna does next, choosing parameters, may take long
        return taken

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        return []

    def silent(self, study_id: int) -> list[int]:
        """Return the trials under way that have given no sign of life for the time of grace."""
        return super()._get_stale_trial_ids(study_id)


class Retry(RetryHeartbeatStaleTrialCallback):
    """Queues a dead trial again, with the same parameters, and ends its MLflow run, which nobody else will."""

    def __init__(self, lock: StudyLock, retries: int | None):
        super().__init__(max_retry=retries)
        self.lock = lock

    def __call__(self, study: optuna.Study, trial: FrozenTrial) -> None:
        _end_run(study, trial)
        orphan = copy.copy(trial)
        # Its owner and its run are not the next one's, which goes on where this one was.
        continued = trial.number if state_of(trial) else trial.user_attrs.get(CONTINUES)
        orphan.user_attrs = {} if continued is None else {CONTINUES: continued}
        with self.lock.held():
            if trial.number not in superseded(study.get_trials(deepcopy=False)):
                super().__call__(study, orphan)


def run_name(trial: FrozenTrial | optuna.Trial) -> str:
    """Return the name of a trial's MLflow run, once its parameters are chosen."""
    if SIDE in trial.params:
        number = f"fold{trial.params[PART]}" if PART in trial.params else f"seed{trial.params[SEED]}"
        return f"{trial.params[SIDE]}-{number}"
    return f"winner-seed{trial.params[SEED]}" if SEED in trial.params else f"trial-{trial.number}"


def state_of(trial: FrozenTrial) -> Path | None:
    """Return the file a trial can be continued from, where it is still there."""
    file = Path(trial.user_attrs.get(STATE, ""))
    return file if file.is_file() else None


def superseded(trials: Sequence[FrozenTrial]) -> set[int]:
    """Return the numbers of the trials that were queued again: their successors count in their place."""
    return {number for trial in trials for number in trial.system_attrs.get(HISTORY, [])}


def check_storage(url: str) -> list[str]:
    """Return what is wrong with a study's address, without making anything."""
    if (file := sqlite_file(url)) is not None:
        return _check_file(url, file)
    if url.split(":")[0].split("+")[0] == "postgresql":
        try:
            sqlalchemy.make_url(url)
        except (ValueError, sqlalchemy.exc.ArgumentError) as error:  # such as a port that is no number
            return [f"sweep.storage={hidden(url)!r} cannot be read: {one_line(error)}"]
        return []
    return [f"sweep.storage={hidden(url)!r} is not an address a sweep can use; {ALLOWED}"]


def _check_file(url: str, file: Path) -> list[str]:
    said = f"sweep.storage={url!r}: "
    if file.is_dir():
        return [f"{said}{file} is a folder; name a file in it"]
    if database.owner_of(file) == "MLflow":
        return [
            f"{said}{file} is MLflow's database; studies take a file of their own, such as sqlite:///mlruns/sweeps.db"
        ]
    there = next(folder for folder in file.parents if folder.exists())
    if not there.is_dir() or not os.access(file if file.exists() else there, os.W_OK):
        why = "Permission denied" if there.is_dir() else f"{there} is a file"
        return [f"{said}cannot write to {file.parent} ({why}); choose another folder"]
    return []


def driver_url(url: str) -> str:
    """Return the address with the driver this project installs: `postgresql://` alone may mean another one."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


def hidden(url: str) -> str:
    """Return the address as it may be shown: without its password."""
    try:
        return sqlalchemy.make_url(url).render_as_string(hide_password=True)
    except (ValueError, sqlalchemy.exc.ArgumentError):
        return re.sub("//.*@", "//***@", url)


def _end_run(study: optuna.Study, trial: FrozenTrial) -> None:
    """End a dead trial's MLflow run as KILLED, unless its process still did.

    By its name, since the process may have died before it could keep the run's id with the trial.
    """
    parent, name = study.user_attrs.get(PARENT_RUN), run_name(trial)
    if parent is None:
        return
    children = f"tags.{Tag.PARENT} = '{parent}' and attributes.run_name LIKE '{name}%'"
    client = mlflow.MlflowClient()
    try:
        for run in search(f"{children} and attributes.status = 'RUNNING'"):
            own, _, ended = str(run.info.run_name).partition(", ")
            if own != name:
                continue
            if ended:  # killed when its run had said what came of it, and its study had not
                client.delete_tag(run.info.run_id, Tag.TRIAL_STATE)
                client.set_tag(run.info.run_id, Tag.NAME, name)
            client.set_terminated(run.info.run_id, "KILLED")
    except (UsageError, MlflowException):  # the server is away: the study is what counts
        pass
