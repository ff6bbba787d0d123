"""Fixtures that several test folders share."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
# A shell in the background ignores Ctrl-C, nohup a closed terminal; children inherit that, and cnnlab respects it.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

from commands import run  # noqa: E402


@dataclass(frozen=True)
class Trained:
    """One finished run of train.py: its folder, its screen, its tracking store and its MLflow run."""

    folder: Path
    output: str
    uri: str

    @property
    def run(self):
        import mlflow

        client = mlflow.MlflowClient(self.uri)
        ids = [experiment.experiment_id for experiment in client.search_experiments()]
        (only,) = client.search_runs(ids)
        return only


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Trained:
    """Train a small network on the digits once, for every test that only looks at what a run leaves."""
    folder = tmp_path_factory.mktemp("trained")
    done = run(folder, "train.py", "model=simple_cnn", "model.filters=[4,8]", "trainer.max_epochs=3")
    assert done.returncode == 0, done.stderr
    return Trained(folder, done.stdout, f"sqlite:///{folder}/mlruns/mlflow.db")
