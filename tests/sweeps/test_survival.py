"""Workers and whole sweeps are killed at random; the study must end with exactly its number of trials."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress

import psutil
import pytest
from optuna.trial import TrialState

from cnnlab.sweeps.study import counted
from commands import small_disk
from sweep_commands import failures, finished, run, start, study_in, tracked_runs, workers_of

TRIALS = 18
KILLS = 5


@pytest.mark.slow
def test_workers_killed_at_random_lose_and_add_no_trial(tmp_path):
    chance = random.Random(0)
    process = start(
        tmp_path, f"sweep.n_trials={TRIALS}", "sweep.n_workers=2", "sweep.retries=10", "trainer.max_epochs=3"
    )
    killed = 0
    for kill in range(KILLS):
        goal = kill * (TRIALS - 10) // KILLS + 1
        while finished(tmp_path) < goal and process.poll() is None:
            time.sleep(0.2)
        time.sleep(chance.uniform(0, 1))
        while not (workers := workers_of(process)) and process.poll() is None:
            time.sleep(0.05)
        if workers:
            chance.choice(workers).send_signal(signal.SIGKILL)
            killed += 1
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    assert killed == KILLS
    assert not failures(tmp_path)
    trials = counted(study_in(tmp_path).get_trials())
    assert len(trials) == TRIALS
    assert all(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
    assert not [run for run in tracked_runs(tmp_path) if run.info.status == "RUNNING"]


@pytest.mark.slow
def test_a_killed_sweep_continues_to_exactly_its_total(tmp_path):
    process = start(tmp_path, "sweep.n_trials=8", "sweep.n_workers=2", "trainer.max_epochs=3")
    workers: list[psutil.Process] = []
    while finished(tmp_path) < 2 and process.poll() is None:
        workers = workers_of(process)
        time.sleep(0.1)
    for victim in [psutil.Process(process.pid), *workers]:
        with suppress(psutil.NoSuchProcess):  # workers end themselves when their launch is gone
            victim.kill()
    process.wait()
    before = {trial.number: trial.values for trial in study_in(tmp_path).get_trials(states=(TrialState.COMPLETE,))}
    assert 0 < len(before) < 8

    said = run(tmp_path, "sweep.n_trials=8", "sweep.n_workers=1", "trainer.max_epochs=3")
    assert "continues with" in said
    trials = study_in(tmp_path).get_trials()
    assert len(counted(trials)) == 8
    assert all(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in counted(trials))
    assert {number: trials[number].values for number in before} == before
    runs = tracked_runs(tmp_path)
    assert "RUNNING" not in [found.info.status for found in runs]
    assert len([found for found in runs if "trial.state" in found.data.tags]) == 8


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_ends_the_sweep_with_one_line_and_no_trial_is_lost(tmp_path):
    with small_disk(tmp_path, "60m") as resize:
        process = start(tmp_path, "sweep.n_trials=2000", "sweep.n_workers=2")
        while not finished(tmp_path) and process.poll() is None:
            time.sleep(0.1)
        with suppress(OSError), (tmp_path / "ballast").open("wb", buffering=0) as ballast:
            while ballast.write(b"0" * 65536) == 65536:
                pass
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 1, said
        assert "Traceback" not in said
        assert said.splitlines()[-1].startswith("error: the disk is full")
        resize("100m")
        before = finished(tmp_path)
        assert before > 0
        run(tmp_path, f"sweep.n_trials={before + 10}", "sweep.n_workers=2")
        trials = counted(study_in(tmp_path).get_trials())
        assert len(trials) == before + 10
        assert not failures(tmp_path)
        assert all(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
        assert not [found for found in tracked_runs(tmp_path) if found.info.status == "RUNNING"]


@pytest.mark.slow
def test_a_deadline_ends_the_launch_and_the_same_command_continues(tmp_path):
    # Epochs enough for hours: only the deadline ends this, once the first trial is under way.
    told = ["trainer.max_epochs=100000", "sweep.n_trials=2", "pruner=none", "callbacks=last_checkpoint"]
    said = run(tmp_path, *told, "sweep.minutes=0.25")
    assert "sweep.minutes=0.25 have passed, 0 of 2 trials are done; 1 under way are queued again" in said
    assert [trial.state.name for trial in study_in(tmp_path).get_trials()] == ["FAIL", "WAITING"]
