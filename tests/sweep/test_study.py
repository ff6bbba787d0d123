"""The shared study: an exact total, trials handed back once, and no mixing of what cannot be compared."""

from __future__ import annotations

import subprocess
import sys
import threading

import optuna
import pytest
from optuna.trial import TrialState

from cnnlab.errors import UsageError
from cnnlab.sweep.goals import Goals
from cnnlab.sweep.owners import is_dead, this_process
from cnnlab.sweep.study import (
    OWNER,
    Spent,
    agree,
    compare,
    counted,
    fail,
    hand_back,
    occupied,
    open_study,
)

SETTINGS = {"heartbeat": 10, "grace": 60, "retries": 1}
DEFINITION = {"search": {"optimizer.lr": "interval(0.1, 0.2)"}, "config": {"seed": 0, "model.filters": [1, 2]}}


@pytest.fixture
def settings(tmp_path):
    return SETTINGS | {"storage": f"sqlite:///{tmp_path}/sweeps.db"}


@pytest.fixture
def ended_process() -> str:
    """The name of a process of this machine that is no more."""
    code = "from cnnlab.sweep.owners import this_process; print(this_process())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def objective(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", 0, 1)


def test_workers_never_create_more_than_the_total(settings):
    open_study(settings, "study", ["maximize"], 20)

    def work() -> None:
        study, _ = open_study(settings, "study", ["maximize"], 20)
        with pytest.raises(Spent):
            study.optimize(objective, n_trials=100)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    study, _ = open_study(settings, "study", ["maximize"], 20)
    assert [trial.state for trial in study.get_trials()] == [TrialState.COMPLETE] * 20


def test_a_raised_total_allows_more_and_a_lowered_one_none(settings):
    study, _ = open_study(settings, "study", ["maximize"], 2)
    with pytest.raises(Spent):
        study.optimize(objective, n_trials=5)
    more, _ = open_study(settings, "study", ["maximize"], 3)
    with pytest.raises(Spent):
        more.optimize(objective, n_trials=5)
    less, _ = open_study(settings, "study", ["maximize"], 1)
    with pytest.raises(Spent):
        less.optimize(objective, n_trials=1)
    assert len(less.get_trials()) == 3


def test_a_trial_has_an_owner_from_its_first_moment(settings):
    study, _ = open_study(settings, "study", ["maximize"], 3)
    study.optimize(objective, n_trials=1)
    study.enqueue_trial({"x": 0.5})
    study.optimize(objective, n_trials=1)
    assert [trial.user_attrs[OWNER] for trial in study.get_trials()] == [this_process()] * 2


def test_dead_trials_are_queued_again_with_their_parameters_and_count_once(settings, ended_process):
    study, lock = open_study(settings, "study", ["maximize"], 3)
    dead = study.ask()
    value = dead.suggest_float("x", 0, 1)
    dead.set_user_attr(OWNER, ended_process)
    hand_back(study, lock, 1)
    hand_back(study, lock, 1)
    assert [trial.state for trial in study.get_trials()] == [TrialState.FAIL, TrialState.WAITING]
    assert occupied(study.get_trials()) == 1
    with pytest.raises(Spent):
        study.optimize(objective, n_trials=10)
    assert study.get_trials()[1].params == {"x": value}
    assert len(study.get_trials()) == 4
    assert [trial.number for trial in counted(study.get_trials())] == [1, 2, 3]


def test_a_trial_that_keeps_dying_counts_as_failed(settings, ended_process):
    study, lock = open_study(settings, "study", ["maximize"], 1)
    for _ in range(2):
        study.ask().set_user_attr(OWNER, ended_process)
        hand_back(study, lock, 1)
    assert [trial.state for trial in study.get_trials()] == [TrialState.FAIL] * 2
    assert [trial.number for trial in counted(study.get_trials())] == [1]
    with pytest.raises(Spent):
        study.ask()


def test_living_trials_are_left_alone(settings):
    study, lock = open_study(settings, "study", ["maximize"], 3)
    study.ask()
    study.ask().set_user_attr(OWNER, "another-machine/1 5 5")
    hand_back(study, lock, 1)
    assert [trial.state for trial in study.get_trials()] == [TrialState.RUNNING] * 2


def test_a_trial_failed_twice_is_queued_once(settings):
    study, lock = open_study(settings, "study", ["maximize"], 3)
    study.ask()
    frozen = study.get_trials()[0]
    fail(study, lock, frozen, 1)
    fail(study, lock, frozen, 1)
    assert [trial.state for trial in study.get_trials()] == [TrialState.FAIL, TrialState.WAITING]


def test_processes_are_told_apart(ended_process):
    name, number, started = this_process().rsplit(" ", 2)
    assert not is_dead(this_process())
    assert is_dead(ended_process)
    assert is_dead(f"{name} {number} {int(started) - 3600}")  # the number was used again
    assert not is_dead(f"elsewhere {number} {int(started) - 3600}")


def test_a_changed_definition_is_refused_with_the_difference(settings):
    study, lock = open_study(settings, "study", ["maximize"], 3)
    assert agree(study, lock, DEFINITION)
    assert not agree(study, lock, DEFINITION)
    changed = {"search": {"optimizer.lr": "interval(0.1, 0.3)"}, "config": {"seed": 0, "model.filters": [1, 3]}}
    with pytest.raises(UsageError) as caught:
        agree(study, lock, changed)
    assert caught.value.problems[:2] == [
        "search.optimizer.lr is 'interval(0.1, 0.3)', but 'interval(0.1, 0.2)' in the study",
        "model.filters is [1, 3], but [1, 2] in the study",
    ]
    assert "sweep.name='study'" in caught.value.problems[2]


def test_added_and_removed_keys_are_differences():
    assert compare({"search": {"a": "1"}}, {"search": {"b": "2"}}) == [
        "search.a is absent, but '1' in the study",
        "search.b is '2', but absent in the study",
    ]


def test_a_study_of_another_program_is_refused(settings):
    optuna.create_study(study_name="study", storage=settings["storage"]).optimize(objective, n_trials=1)
    study, lock = open_study(settings, "study", ["minimize"], 3)
    with pytest.raises(UsageError, match="another program"):
        agree(study, lock, DEFINITION)


def test_an_address_that_cannot_be_used_is_refused_without_its_password():
    unreachable = SETTINGS | {"storage": "postgresql://user:secret@127.0.0.1:1/none"}
    with pytest.raises(UsageError, match="cannot be opened") as caught:
        open_study(unreachable, "study", ["maximize"], 3)
    assert "secret" not in str(caught.value)
    with pytest.raises(UsageError, match="not an address"):
        open_study(SETTINGS | {"storage": "mysql://host/none"}, "study", ["maximize"], 3)


def test_the_best_trial_is_the_first_of_the_best():
    study = optuna.create_study(direction="minimize")
    for value in (0.5, 0.2, 0.2, 0.9):
        study.add_trial(optuna.create_trial(value=value))
    assert Goals(("val/loss",)).best(study.trials).number == 1
    assert Goals(("val/acc",)).best(study.trials).number == 3
    assert Goals(("val/acc",)).best([]) is None


def test_while_no_trial_ran_to_its_end_the_best_that_came_furthest_counts():
    study = optuna.create_study(direction="maximize")
    for value, epochs in ((0.99, 1), (0.7, 3), (0.8, 3), (0.8, 3)):
        pruned = dict.fromkeys(range(1, epochs + 1), value)
        study.add_trial(optuna.create_trial(state=TrialState.PRUNED, value=value, intermediate_values=pruned))
    study.add_trial(optuna.create_trial(state=TrialState.FAIL))
    assert Goals(("val/acc",)).best(study.trials).number == 2
    study.add_trial(optuna.create_trial(value=0.5))
    assert Goals(("val/acc",)).best(study.trials).number == 5
