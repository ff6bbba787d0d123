"""One worker: which trials it takes, what ends it, and what becomes of those it leaves."""

from __future__ import annotations

import sqlite3

import optuna
import pytest
from optuna.trial import TrialState

from cnnlab.errors import DatabaseHeld
from cnnlab.settings.commands import Tracking
from cnnlab.settings.read import read, resolve
from cnnlab.sweeps.setup import reason_kept
from cnnlab.sweeps.storage import PARENT_RUN
from cnnlab.sweeps.study import REASON, counted, requeue
from cnnlab.sweeps.worker import drain
from cnnlab.tracking.run import create_run
from cnnlab.tracking.schema import Tag
from sweep_bench import Bench, worker_order


def test_a_worker_goes_on_when_its_trial_was_taken_for_dead(tmp_path, capsys):
    bench = Bench(tmp_path, "trainer.max_epochs=1")

    def slept(trial: optuna.Trial) -> float:
        if trial.number == 0:
            other = optuna.load_study(study_name="s", storage=bench.sweep.storage)
            other.tell(0, state=TrialState.FAIL)
        return bench.task(trial)

    assert drain(bench.study, bench.lock, slept, worker_order(bench, 2)) == 0
    assert [trial.state for trial in bench.study.get_trials()] == [TrialState.FAIL, TrialState.COMPLETE]
    assert "trial 0 was taken over by another worker" in capsys.readouterr().err


def test_a_worker_does_not_go_on_with_a_sampler_that_fails(tmp_path):
    class Broken(optuna.samplers.RandomSampler):
        def after_trial(self, study, trial, state, values):
            raise ValueError("no such point")

    bench = Bench(tmp_path, "trainer.max_epochs=1")
    bench.study.sampler = Broken()
    with pytest.raises(ValueError, match="no such point"):
        drain(bench.study, bench.lock, lambda trial: 0.5, worker_order(bench, 2))
    assert len(bench.study.get_trials()) == 1


def test_a_worker_works_off_the_queue_and_no_more_without_a_total(tmp_path):
    bench = Bench(tmp_path)
    bench.study.enqueue_trial({"x": 0.5})
    assert drain(bench.study, bench.lock, lambda trial: trial.suggest_float("x", 0, 1), worker_order(bench, None)) == 0
    assert [trial.value for trial in bench.study.get_trials()] == [0.5]


def test_a_database_that_others_hold_is_no_fault_of_the_trial(tmp_path):
    bench = Bench(tmp_path)
    file = tmp_path / "held.db"
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")

    def writes(trial: optuna.Trial) -> float:
        with reason_kept(trial):
            sqlite3.connect(file, timeout=0).execute("CREATE TABLE results (value)")
        return 0.5

    with pytest.raises(DatabaseHeld, match="database is locked"):
        drain(bench.study, bench.lock, writes, worker_order(bench, 1))
    (trial,) = bench.study.get_trials()
    assert trial.state == TrialState.RUNNING and REASON not in trial.user_attrs
    holder.close()
    requeue(bench.study, bench.lock, trial, 1)  # as its launch does, once the worker is dead
    assert drain(bench.study, bench.lock, writes, worker_order(bench, 1)) == 0
    assert [trial.state for trial in counted(bench.study.get_trials())] == [TrialState.COMPLETE]


@pytest.mark.parametrize("told", ["", ", pruned"])
def test_the_run_of_a_trial_that_died_is_ended_whatever_it_had_told_until_then(tmp_path, told):
    # A run has the trial's name before the trial has the run's id, and another one from when it says how it ended.
    bench = Bench(tmp_path)
    bench.study.set_user_attr(PARENT_RUN, bench.parent)
    bench.study.enqueue_trial({"model.hidden_units.0": 8})
    bench.study.ask()
    tracking = read(Tracking, resolve(bench.config)["tracking"])
    its_own, another, tenth = (
        create_run(
            tracking.model_copy(update={"run_name": name}), {Tag.PARENT: bench.parent, Tag.TRIAL_STATE: "pruned"}
        )
        for name in (f"trial-0{told}", "trial-7", "trial-00")
    )
    requeue(bench.study, bench.lock, bench.study.get_trials()[0], 1)
    run = bench.client.get_run(its_own)
    assert (run.info.status, run.info.run_name) == ("KILLED", "trial-0")
    assert (Tag.TRIAL_STATE in run.data.tags) == (not told), "what counts is the trial in its place"
    assert [bench.client.get_run(other).info.status for other in (another, tenth)] == ["RUNNING", "RUNNING"]
