"""The study all workers share: opened once, safely, and never given more trials than it may have."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import mlflow
import optuna
import sqlalchemy
from mlflow.exceptions import MlflowException
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from cnnlab.errors import UsageError, disk_is_full
from cnnlab.sweep.locks import StudyLock, driver_url, hidden
from cnnlab.sweep.owners import is_dead, this_process
from cnnlab.tracking.store import sqlite_file

# User attributes of a trial.
OWNER = "owner"  # the process that runs it
RUN = "mlflow_run"
REASON = "reason"  # why it failed
RESULT = "result"  # what it measured, beyond its value
DUPLICATE = "duplicate_of"
# User attributes of a study.
DEFINITION = "definition"  # what makes trials comparable
PARENT_RUN = "mlflow_run"

HISTORY = "retry_history"  # Optuna's own name for the numbers of the trials that one was queued in place of

DATABASE_ERRORS = (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError)
UNFINISHED = (TrialState.RUNNING, TrialState.WAITING)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep to ourselves what Optuna calls experimental: its heartbeat, and some samplers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


class Spent(Exception):
    """The study has all the trials it may have."""


class Retry(RetryHeartbeatStaleTrialCallback):
    """Queues a dead trial again, with the same parameters, and ends its MLflow run, which nobody else will."""

    def __init__(self, lock: StudyLock, retries: int | None):
        with quiet():
            super().__init__(max_retry=retries)
        self.lock = lock

    def __call__(self, study: optuna.Study, trial: FrozenTrial) -> None:
        _end_run(trial.user_attrs.get(RUN))
        orphan = copy.copy(trial)
        orphan.user_attrs = {}  # its owner and its run are not the next one's
        with self.lock.held():
            if trial.number not in superseded(study.get_trials(deepcopy=False)):
                super().__call__(study, orphan)


class SharedStorage(RDBStorage):
    """Optuna's database storage that creates a trial under the study's lock, and only while there are trials left.

    Optuna counts trials where it starts them, each process for itself; here the database does, so the total is exact.
    A trial carries its owner from its first moment: one that dies before its first heartbeat is not lost.
    """

    def __init__(self, url: str, lock: StudyLock, settings: Mapping[str, Any]):
        options: dict[str, Any] = {"pool_pre_ping": True}
        if sqlite_file(url) is not None:
            options["connect_args"] = {"timeout": 60}  # seconds to wait for another process' write
        with quiet():
            super().__init__(
                driver_url(url),
                engine_kwargs=options,
                heartbeat_interval=settings["heartbeat"],
                grace_period=settings["grace"],
                heartbeat_stale_trial_callback=Retry(lock, settings["retries"]),
            )
        self.lock = lock
        self.study: optuna.Study | None = None
        self.total = 0

    # Private in Optuna 5, but the one place where trials come into being; test_study.py fails when that changes.
    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        if template_trial is not None:
            return super()._create_new_trial(study_id, template_trial)
        assert self.study is not None
        with self.lock.held():
            if occupied(self.study.get_trials(deepcopy=False)) >= self.total:
                raise Spent
            mine = optuna.create_trial(state=TrialState.RUNNING, user_attrs={OWNER: this_process()})
            created = super()._create_new_trial(study_id, mine)
        self.record_heartbeat(created._trial_id)
        return created

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        if state != TrialState.RUNNING:
            return super().set_trial_state_values(trial_id, state, values)
        with self.lock.held():  # a trial taken from the queue: owned before it runs
            if self.get_trial(trial_id).state != TrialState.WAITING:
                return False
            self.set_trial_user_attr(trial_id, OWNER, this_process())
            taken = super().set_trial_state_values(trial_id, state, values)
        self.record_heartbeat(trial_id)
        return taken


def superseded(trials: Sequence[FrozenTrial]) -> set[int]:
    """Return the numbers of the trials that were queued again: their successors count in their place."""
    return {number for trial in trials for number in trial.system_attrs.get(HISTORY, [])}


def counted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that make up the total."""
    gone = superseded(trials)
    return [trial for trial in trials if trial.number not in gone]


def occupied(trials: Sequence[FrozenTrial]) -> int:
    """Return how many of the study's places are taken."""
    return len(trials) - len(superseded(trials))


def open_study(
    settings: Mapping[str, Any],
    name: str,
    directions: Sequence[str],
    total: int,
    sampler: optuna.samplers.BaseSampler | None = None,
    pruner: optuna.pruners.BasePruner | None = None,
) -> tuple[optuna.Study, StudyLock]:
    """Return the study of that name, created where it is missing, and its lock.

    `settings` is the `sweep` section, `total` the number of trials the study may have. Raises UsageError where the
    storage cannot be used.
    """
    url = settings["storage"]
    lock = StudyLock(url, name)
    try:
        with lock.held():
            storage = SharedStorage(url, lock, settings)
            study = optuna.create_study(
                storage=storage,
                study_name=name,
                directions=[StudyDirection[direction.upper()] for direction in directions],
                load_if_exists=True,
                sampler=sampler,
                pruner=pruner,
            )
    except (ImportError, *DATABASE_ERRORS, OSError) as error:
        raise UsageError(f"sweep.storage={hidden(url)!r} cannot be opened: {_first_line(error)}") from error
    storage.study = study
    storage.total = total
    return study, lock


@contextmanager
def needs_database(url: str) -> Iterator[None]:
    """Raise UsageError where the block loses the study's database; a full disk stays the error it is."""
    try:
        yield
    except DATABASE_ERRORS as error:
        if disk_is_full(error):
            raise
        line = f"sweep.storage={hidden(url)!r} does not answer any more: {_first_line(error)}"
        raise UsageError(f"{line}; the same command continues the study once it does") from error


def _first_line(error: BaseException) -> str:
    return str(error.__cause__ or error).strip().splitlines()[0]


def agree(study: optuna.Study, lock: StudyLock, definition: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether the study is new; what it is about is kept with it.

    Raises UsageError with every difference where the study is about something else.
    """
    with lock.held():
        kept = study.user_attrs.get(DEFINITION)
        if kept is None:
            if study.get_trials(deepcopy=False):
                raise UsageError(f"sweep.name={study.study_name!r} is a study of another program; choose another name")
            study.set_user_attr(DEFINITION, dict(definition))
            return True
    if differences := compare(kept, definition):
        raise UsageError(
            *differences,
            f"sweep.name={study.study_name!r} has trials that could not be compared; "
            "undo the change, or choose another sweep.name",
        )
    return False


def compare(kept: Mapping[str, Mapping[str, Any]], given: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return one line for each key whose value differs, by section."""
    lines = []
    for section in given:
        old, new = kept.get(section, {}), given[section]
        for key in dict.fromkeys([*old, *new]):
            before, now = (repr(side[key]) if key in side else "absent" for side in (old, new))
            if before != now:
                name = f"search.{key}" if section == "search" else key
                lines.append(f"{name} is {now}, but {before} in the study")
    return lines


def hand_back(study: optuna.Study, lock: StudyLock, retries: int | None) -> None:
    """Fail the running trials whose process on this machine is dead and queue them again, `retries` times at most."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if OWNER in trial.user_attrs and is_dead(trial.user_attrs[OWNER]):
            fail(study, lock, trial, retries)


def fail(study: optuna.Study, lock: StudyLock, trial: FrozenTrial, retries: int | None) -> None:
    """Fail a running trial and queue it again, unless another process did so first."""
    try:
        study.tell(trial.number, state=TrialState.FAIL)
    except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
        return
    Retry(lock, retries)(study, trial)


def _end_run(run_id: str | None) -> None:
    """End a dead trial's MLflow run as KILLED, unless its process still did."""
    if run_id is None:
        return
    client = mlflow.MlflowClient()
    try:
        if client.get_run(run_id).info.status == "RUNNING":
            client.set_terminated(run_id, "KILLED")
    except MlflowException:  # deleted by hand, or the server is away: the study is what counts
        pass
