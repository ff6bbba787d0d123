"""Two launches, as on two machines, share one study in a real PostgreSQL."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from cnnlab.sweeps.storage import OWNER, driver_url
from postgres_server import server
from sweep_commands import start, tracked_runs

TRIALS = 12


@pytest.mark.slow
def test_two_launches_share_a_study(tmp_path):
    # Its own short folder: a socket's path has at most 107 characters, and only root may enter pytest's.
    with tempfile.TemporaryDirectory(prefix="cnnlab-") as folder, server(Path(folder)) as address:
        launches = [
            start(tmp_path, f"sweep.storage={address}", f"sweep.n_trials={TRIALS}", "sweep.final_seeds=2", "seed=3")
            for _ in range(2)
        ]
        for launch in launches:
            said, _ = launch.communicate(timeout=300)
            assert launch.returncode == 0, said
        study = optuna.load_study(study_name="study", storage=driver_url(address))
        trials = study.get_trials()
        names = optuna.get_all_study_names(driver_url(address))
        finals = [optuna.load_study(study_name=name, storage=driver_url(address)) for name in names if "," in name]
        seeds = [sorted(trial.params["seed"] for trial in winner.get_trials()) for winner in finals]
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * TRIALS
    assert len({trial.user_attrs[OWNER] for trial in trials}) == 2
    assert seeds == [[4, 5]]
    runs = tracked_runs(tmp_path)
    assert len(runs) == 1 + TRIALS + 2
    assert {run.info.status for run in runs} == {"FINISHED"}


@pytest.mark.slow
def test_a_database_that_goes_away_ends_the_launch_with_one_line(tmp_path):
    with tempfile.TemporaryDirectory(prefix="cnnlab-") as folder, server(Path(folder)) as address:
        launch = start(tmp_path, f"sweep.storage={address}", "sweep.n_trials=10000")
        deadline = time.monotonic() + 120
        while not finished(address):
            assert launch.poll() is None and time.monotonic() < deadline, "no trial ended"
            time.sleep(0.5)
    said, _ = launch.communicate(timeout=300)
    assert launch.returncode == 2, said
    assert "Traceback" not in said
    (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert address in error and "does not answer any more" in error
    assert not [run for run in tracked_runs(tmp_path) if run.info.status == "RUNNING"]


def finished(address: str) -> bool:
    """Return whether the study has a trial that ended."""
    names = optuna.get_all_study_names(driver_url(address))
    return any(
        optuna.load_study(study_name=name, storage=driver_url(address)).get_trials(states=[TrialState.COMPLETE])
        for name in names
    )
