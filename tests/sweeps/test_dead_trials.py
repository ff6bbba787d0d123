"""Trials whose process died: which are taken for dead, and what becomes of them."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import optuna
import pytest
from optuna.trial import TrialState

from cnnlab.living import is_dead, this_process
from cnnlab.settings.read import read
from cnnlab.settings.sweep import Sweep
from cnnlab.sweeps.storage import OWNER, StudyLock
from cnnlab.sweeps.study import counted, offered, open_study, requeue, requeue_dead, storage_of
from cnnlab.tracking.store import sqlite_file
from commands import ROOT, composed, environment
from sweep_bench import drained


@pytest.fixture
def settings(tmp_path) -> Sweep:
    given = ["sweep.name=study", "sweep.retries=1", f"sweep.storage=sqlite:///{tmp_path}/sweeps.db"]
    return read(Sweep, composed(*given, config_name="sweep")["sweep"], "sweep.")


def asked(study: optuna.Study, lock: StudyLock) -> optuna.Trial:
    """Return a running trial."""
    with offered(study, lock, 10) as waiting:
        assert waiting
        return study.ask()


@pytest.fixture
def ended_process() -> str:
    """The name of a process of this machine that is no more."""
    code = "from cnnlab.living import this_process; print(this_process())"
    here = environment(PYTHONPATH=str(ROOT / "src"))
    done = subprocess.run([sys.executable, "-c", code], env=here, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_trial_has_an_owner_from_its_first_moment(settings):
    study, lock = open_study(settings, "study", ["maximize"])
    asked(study, lock)
    study.enqueue_trial({"x": 0.5})
    study.ask()
    assert [trial.user_attrs[OWNER] for trial in study.get_trials()] == [this_process()] * 2


def test_dead_trials_are_queued_again_with_their_parameters_and_count_once(settings, ended_process):
    study, lock = open_study(settings, "study", ["maximize"])
    dead = asked(study, lock)
    value = dead.suggest_float("x", 0, 1)
    dead.set_user_attr(OWNER, ended_process)
    requeue_dead(study, lock, 1)
    requeue_dead(study, lock, 1)
    assert [trial.state for trial in study.get_trials()] == [TrialState.FAIL, TrialState.WAITING]
    assert len(counted(study.get_trials())) == 1
    assert drained(study, lock, 3) == 3
    assert study.get_trials()[1].params == {"x": value}
    assert len(study.get_trials()) == 4
    assert [trial.number for trial in counted(study.get_trials())] == [1, 2, 3]


def test_a_trial_that_keeps_dying_counts_as_failed(settings, ended_process):
    study, lock = open_study(settings, "study", ["maximize"])
    for _ in range(2):
        asked(study, lock).set_user_attr(OWNER, ended_process)
        requeue_dead(study, lock, 1)
    assert [trial.state for trial in study.get_trials()] == [TrialState.FAIL] * 2
    assert [trial.number for trial in counted(study.get_trials())] == [1]
    assert drained(study, lock, 1) == 0


def test_living_trials_are_left_alone(settings):
    study, lock = open_study(settings, "study", ["maximize"])
    asked(study, lock)
    asked(study, lock).set_user_attr(OWNER, "another-machine/1 5 5")
    requeue_dead(study, lock, 1)
    assert [trial.state for trial in study.get_trials()] == [TrialState.RUNNING] * 2


def test_a_silent_trial_is_dead_on_another_machine_and_not_on_this_one(settings):
    study, lock = open_study(settings, "study", ["maximize"])
    for owner in ("another-machine/1 5 5", this_process(), "another-machine/1 5 6"):
        asked(study, lock).set_user_attr(OWNER, owner)
    storage_of(study).record_heartbeat(study.get_trials()[2]._trial_id)
    with closing(sqlite3.connect(sqlite_file(settings.storage))) as database, database:
        database.execute("UPDATE trial_heartbeats SET heartbeat = datetime('now', '-1 hour') WHERE trial_id <> 3")
    study.optimize(lambda trial: 0.5, n_trials=1)  # Optuna itself fails none, which it would before it queues them
    assert [trial.state for trial in study.get_trials()][:3] == [TrialState.RUNNING] * 3
    requeue_dead(study, lock, 1)
    states = [TrialState.FAIL, TrialState.RUNNING, TrialState.RUNNING, TrialState.COMPLETE, TrialState.WAITING]
    assert [trial.state for trial in study.get_trials()] == states


def test_a_trial_failed_twice_is_queued_once(settings):
    study, lock = open_study(settings, "study", ["maximize"])
    asked(study, lock)
    frozen = study.get_trials()[0]
    requeue(study, lock, frozen, 1)
    requeue(study, lock, frozen, 1)
    assert [trial.state for trial in study.get_trials()] == [TrialState.FAIL, TrialState.WAITING]


@pytest.mark.parametrize("step", ["add_trial", "tell"])
def test_a_full_disk_in_the_middle_of_queueing_again_loses_no_trial(settings, ended_process, monkeypatch, step):
    study, lock = open_study(settings, "study", ["maximize"])
    asked(study, lock).set_user_attr(OWNER, ended_process)
    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
        patched.setattr(study, step, no_room)
        requeue_dead(study, lock, None)
    requeue_dead(study, lock, 1)
    assert [trial.state for trial in study.get_trials()] == [TrialState.FAIL, TrialState.WAITING]
    assert [trial.number for trial in counted(study.get_trials())] == [1]


def no_room(*arguments: object, **keywords: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_processes_are_told_apart(ended_process):
    name, number, started = this_process().rsplit(" ", 2)
    assert not is_dead(this_process())
    assert is_dead(ended_process)
    assert is_dead(f"{name} {number} {int(started) + 3600}")  # the number was used again
    assert not is_dead(f"elsewhere {number} {int(started) + 3600}")
