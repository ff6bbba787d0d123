"""The shared study: an exact total, trials handed back once, and no mixing of what cannot be compared."""

from __future__ import annotations

import threading

import optuna
import pytest
from filelock import FileLock
from optuna.trial import TrialState

from cnnlab.errors import UsageError
from cnnlab.settings.read import read
from cnnlab.settings.sweep import Sweep
from cnnlab.sweeps.goals import Goals
from cnnlab.sweeps.study import (
    check_definition,
    compare,
    open_study,
)
from commands import composed
from sweep_bench import drained, objective

SETTINGS = read(Sweep, composed("sweep.name=study", "sweep.retries=1", config_name="sweep")["sweep"], "sweep.")
DEFINITION = {"search": {"optimizer.lr": "interval(0.1, 0.2)"}, "config": {"seed": 0, "model.filters": [1, 2]}}


@pytest.fixture
def settings(tmp_path):
    return with_storage(f"sqlite:///{tmp_path}/sweeps.db")


def with_storage(address: str) -> Sweep:
    return SETTINGS.model_copy(update={"storage": address})


def test_workers_never_create_more_than_the_total(settings):
    open_study(settings, "study", ["maximize"])
    taken = []

    def work() -> None:
        taken.append(drained(*open_study(settings, "study", ["maximize"]), 20))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    study, _ = open_study(settings, "study", ["maximize"])
    assert [trial.state for trial in study.get_trials()] == [TrialState.COMPLETE] * 20
    assert sum(taken) == 20


def test_a_raised_total_allows_more_and_a_lowered_one_none(settings):
    study, lock = open_study(settings, "study", ["maximize"])
    assert drained(study, lock, 2) == 2
    assert drained(study, lock, 3) == 1
    assert drained(study, lock, 1) == 0
    assert len(study.get_trials()) == 3


def test_a_lowered_total_leaves_what_waits_in_the_queue(settings):
    study, lock = open_study(settings, "study", ["maximize"])
    drained(study, lock, 2)
    study.add_trial(optuna.create_trial(state=TrialState.WAITING))
    assert drained(study, lock, 2) == 0
    assert drained(study, lock, 3) == 1
    assert len(study.get_trials()) == 3


def test_without_a_total_only_the_queue_is_worked_off(settings):
    study, lock = open_study(settings, "study", ["maximize"])
    assert drained(study, lock, None) == 0
    for value in (0.25, 0.75):
        study.enqueue_trial({"x": value})
    assert drained(study, lock, None) == 2
    assert [trial.params for trial in study.get_trials()] == [{"x": 0.25}, {"x": 0.75}]


def test_the_lock_is_let_go_before_parameters_are_chosen(settings):
    free = []

    class Slow(optuna.samplers.RandomSampler):
        def sample_relative(self, study, trial, space):
            with FileLock(lock.file_lock.lock_file, timeout=1):  # a second lock on the file, as another process has it
                free.append(trial.number)
            return {}

    study, lock = open_study(settings, "study", ["maximize"], Slow())
    assert drained(study, lock, 2) == 2
    assert free == [0, 1]


def test_a_changed_definition_is_refused_with_the_difference(settings):
    study, lock = open_study(settings, "study", ["maximize"])
    assert check_definition(study, lock, DEFINITION)
    assert not check_definition(study, lock, DEFINITION)
    changed = {"search": {"optimizer.lr": "interval(0.1, 0.3)"}, "config": {"seed": 0, "model.filters": [1, 3]}}
    with pytest.raises(UsageError) as caught:
        check_definition(study, lock, changed)
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
    optuna.create_study(study_name="study", storage=settings.storage).optimize(objective, n_trials=1)
    study, lock = open_study(settings, "study", ["minimize"])
    with pytest.raises(UsageError, match="another program"):
        check_definition(study, lock, DEFINITION)


def test_an_address_that_cannot_be_used_is_refused_without_its_password():
    unreachable = with_storage("postgresql://user:secret@127.0.0.1:1/none")
    with pytest.raises(UsageError, match="cannot be opened") as caught:
        open_study(unreachable, "study", ["maximize"])
    assert "secret" not in str(caught.value)
    with pytest.raises(UsageError, match="not an address"):
        open_study(with_storage("mysql://host/none"), "study", ["maximize"])


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
