"""Fixtures that several test folders share."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: more threads would only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell in the background ignores Ctrl-C, nohup a closed terminal; children inherit that, and cnnlab respects it.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

import copied_stores  # noqa: E402
from commands import run  # noqa: E402

copied_stores.copy_stores()


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
def trained(tmp_path_factory, worker_id) -> Trained:
    """Train a small network on the digits once, for every test that only looks at what a run leaves.

    The processes of one test run share it: whoever comes first trains, under a lock.
    """
    folder = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        folder = folder.parent
    folder /= "trained"
    said = folder / "said.txt"
    with FileLock(folder.with_suffix(".lock")):
        if not said.exists():
            folder.mkdir()
            done = run(folder, "train.py", "model=simple_cnn", "model.filters=[4,8]", "trainer.max_epochs=3")
            assert done.returncode == 0, done.stderr
            said.write_text(done.stdout)
    return Trained(folder, said.read_text(), f"sqlite:///{folder}/mlruns/mlflow.db")
