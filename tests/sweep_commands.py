"""Runs of sweep.py as a user starts them, and what they leave behind."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import mlflow
import optuna
import psutil
import pytest
from optuna.trial import TrialState

from cnnlab.errors import UsageError
from cnnlab.sweeps.order import Order, read_order
from cnnlab.sweeps.study import counted
from commands import environment, job

ROOT = Path(__file__).resolve().parents[1]
# One epoch of a small network on the bundled digits: a trial of a tenth of a second.
QUICK = ["model=dnn", "search=mlp", "trainer.max_epochs=1", "sweep.final_seeds=0", "figures.enabled=false"]


def order(tmp_path: Path, *overrides: str) -> Order:
    """Return what a sweep is asked for; its store lies in `tmp_path`."""
    given = ["sweep.name=s", f"tracking.uri=sqlite:///{tmp_path}/mlflow.db", "model=dnn", "search=mlp"]
    return read_order(job("sweep", tmp_path, *given, *overrides))


def problems(tmp_path: Path, *overrides: str) -> list[str]:
    """Return why a sweep is refused."""
    with pytest.raises(UsageError) as caught:
        order(tmp_path, *overrides)
    return caught.value.problems


def bare_environment() -> dict[str, str]:
    """Return the environment of one who has set nothing of MLflow's and cnnlab's."""
    return {key: value for key, value in environment().items() if not key.startswith(("MLFLOW_", "CNNLAB_"))}


def start(folder: Path, *overrides: str) -> subprocess.Popen[str]:
    """Start a quick sweep in `folder`; its output can be read when it ended."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "sweep.py"), *QUICK, "sweep.name=study", *overrides],
        cwd=folder,
        env=bare_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(folder: Path, *overrides: str, code: int = 0) -> str:
    """Run a quick sweep in `folder` to its end and return what it said; its exit code must be `code`."""
    process = start(folder, *overrides)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == code, said
    return said


def study_in(folder: Path, name: str = "study") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/mlruns/sweeps.db")


def counted_in(folder: Path, query: str) -> int:
    """Return what a query counts in the sweeps' database; 0 while it is not there.

    Not through Optuna, which makes a database where there is none, and so spoils the one that a sweep is just making.
    """
    try:
        with closing(sqlite3.connect(f"file:{folder}/mlruns/sweeps.db?mode=ro", uri=True)) as database:
            return database.execute(query).fetchone()[0]
    except sqlite3.Error:
        return 0


def finished(folder: Path) -> int:
    """Return how many trials have ended well."""
    return counted_in(folder, "select count(*) from trials where state in ('COMPLETE', 'PRUNED')")


def reported(folder: Path) -> int:
    """Return how many epochs trials have told of."""
    return counted_in(folder, "select count(*) from trial_intermediate_values")


def tracked(folder: Path) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")


def tracked_runs(folder: Path) -> list[mlflow.entities.Run]:
    client = tracked(folder)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(experiments, max_results=1000)


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the workers that a sweep has started."""
    found = []
    with suppress(psutil.NoSuchProcess):  # the launch has just ended
        for child in psutil.Process(process.pid).children():
            with suppress(psutil.NoSuchProcess):  # or this one, and is a zombie until the launch sees it
                if "cnnlab.sweeps.worker" in " ".join(child.cmdline()):
                    found.append(child)
    return found


def failures(folder: Path) -> list[tuple[str, int, dict[str, object]]]:
    """Return study, number and attributes, such as the reason, of the trials that failed and were not queued again."""
    url = f"sqlite:///{folder}/mlruns/sweeps.db"
    return [
        (name, trial.number, trial.user_attrs)
        for name in optuna.get_all_study_names(url)
        for trial in counted(study_in(folder, name).get_trials())
        if trial.state == TrialState.FAIL
    ]
