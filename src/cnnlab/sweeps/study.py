"""The study all workers share: opened once, safely, and never given more trials than it may have."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import optuna
import sqlalchemy
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from cnnlab.errors import UsageError, disk_is_full, one_line
from cnnlab.living import is_dead, is_here
from cnnlab.settings.sweep import Sweep
from cnnlab.sweeps.promotion import Promotion
from cnnlab.sweeps.storage import CONTINUES, OWNER, Retry, SharedStorage, StudyLock, hidden, superseded

# User attributes of a trial, beyond those of `storage`.
REASON = "reason"  # why it failed
RESULT = "result"  # what it measured, beyond its value
DUPLICATE = "duplicate_of"
THREADS = "threads"  # CPU threads it was trained with
EXCESS = "excess"  # by how much each cost exceeds its limit, as a share of it; what is above 0 is not trained
DEFINITION = "definition"  # attribute of a study: what makes its trials comparable

Definition = Mapping[str, Mapping[str, object]]
DATABASE_ERRORS = (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError)


def open_study(
    settings: Sweep,
    name: str,
    directions: Sequence[str],
    sampler: optuna.samplers.BaseSampler | None = None,
    pruner: optuna.pruners.BasePruner | None = None,
) -> tuple[optuna.Study, StudyLock]:
    """Return the study of that name, created where it is missing, and its lock.

    Raises UsageError where the storage cannot be used.
    """
    url = settings.storage
    lock = StudyLock(url, name)
    try:
        with lock.held():
            study = optuna.create_study(
                storage=SharedStorage(settings, lock),
                study_name=name,
                directions=[StudyDirection[direction.upper()] for direction in directions],
                load_if_exists=True,
                sampler=sampler,
                pruner=pruner,
            )
    except (ImportError, *DATABASE_ERRORS, OSError) as error:
        raise UsageError(f"sweep.storage={hidden(url)!r} cannot be opened: {_reason(error)}") from error
    return study, lock


@contextmanager
def offered(
    study: optuna.Study, lock: StudyLock, total: int | None, promotion: Promotion | None = None
) -> Iterator[bool]:
    """Yield whether a trial waits to be taken, after queueing one if fewer than `total` of the places are occupied.

    That one goes on with a pruned trial where `promotion` finds one, and is the sampler's to choose otherwise.

    Without a total only what was queued already is offered. Optuna counts trials where it starts them, each process for
    itself; here the study's lock is held from the count until the block has taken one, so the total is exact.
    """
    with lock.held_until_taken():
        trials = study.get_trials(deepcopy=False)
        waiting = any(trial.state == TrialState.WAITING for trial in trials)
        if total is not None:
            running_or_ended = sum(trial.state != TrialState.WAITING for trial in counted(trials))
            if running_or_ended >= total:
                waiting = False
            elif not waiting:
                stopped = promotion.candidate(study) if promotion else None
                if stopped is not None:
                    study.enqueue_trial(stopped.params, user_attrs={CONTINUES: stopped.number})
                else:
                    study.add_trial(optuna.create_trial(state=TrialState.WAITING))
                waiting = True
        yield waiting


def counted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that make up the total."""
    gone = superseded(trials)
    return [trial for trial in trials if trial.number not in gone]


def excess(trial: FrozenTrial) -> list[float]:
    """Return what a trial's network costs too much, as Optuna's samplers ask for their constraints."""
    return list(trial.user_attrs.get(EXCESS, []))


def is_infeasible(trial: FrozenTrial) -> bool:
    """Return whether a trial was not trained because its network costs too much."""
    return any(share > 0 for share in excess(trial))


@contextmanager
def needs_database(url: str) -> Iterator[None]:
    """Raise UsageError where the block loses the study's database; a full disk stays the error it is."""
    try:
        yield
    except DATABASE_ERRORS as error:
        if disk_is_full(error):
            raise
        line = f"sweep.storage={hidden(url)!r} does not answer any more: {_reason(error)}"
        raise UsageError(f"{line}; the same command continues the study once it does") from error


def _reason(error: BaseException) -> str:
    return one_line(error.__cause__ or error)


def check_definition(study: optuna.Study, lock: StudyLock, definition: Definition) -> bool:
    """Return whether the study is new; what it is about is kept with it.

    Raises UsageError with every difference where the study is about something else.
    """
    with lock.held():
        # Not among the attributes of the user, which optuna-dashboard shows: older studies have it there.
        known = study._storage.get_study_system_attrs(study._study_id)
        kept = known.get(DEFINITION) or study.user_attrs.get(DEFINITION)
        if kept is None:
            if study.get_trials(deepcopy=False):
                raise UsageError(f"sweep.name={study.study_name!r} is a study of another program; choose another name")
            study._storage.set_study_system_attr(study._study_id, DEFINITION, json.loads(json.dumps(definition)))
            return True
    if differences := compare(kept, definition):
        raise UsageError(
            *differences,
            f"sweep.name={study.study_name!r} has trials that could not be compared; "
            "undo the change, or choose another sweep.name",
        )
    return False


def compare(kept: Definition, given: Definition) -> list[str]:
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


def requeue_dead(study: optuna.Study, lock: StudyLock, retries: int | None) -> None:
    """Fail the running trials whose process is dead and queue them again, `retries` times at most.

    Of this machine's processes that is known; one of another machine counts as dead once it has been silent for the
    time of grace.
    """
    elsewhere = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        owner = trial.user_attrs.get(OWNER)
        if owner and is_dead(owner):
            requeue(study, lock, trial, retries)
        elif not (owner and is_here(owner)):
            elsewhere.append(trial)
    if elsewhere:
        silent = storage_of(study).silent(study._study_id)
        for trial in elsewhere:
            if trial._trial_id in silent:
                requeue(study, lock, trial, retries)


def storage_of(study: optuna.Study) -> SharedStorage:
    """Return the storage of a study that `open_study` has opened, which Optuna keeps behind a cache."""
    storage = study._storage._backend  # type: ignore[attr-defined]
    assert isinstance(storage, SharedStorage)
    return storage


def requeue(study: optuna.Study, lock: StudyLock, trial: FrozenTrial, retries: int | None) -> None:
    """Fail a running trial and queue it again, unless another process did so first.

    It is queued first: what ends this process in between, or fills the disk, leaves a trial too many, which counts as
    one and is failed by the next launch, and none too few.
    """
    Retry(lock, retries)(study, trial)
    with suppress(ValueError, optuna.exceptions.UpdateFinishedTrialError):
        study.tell(trial.number, state=TrialState.FAIL)
