"""A database that others hold, many writers at once, folders that go away, and a clock that goes back."""

from __future__ import annotations

import multiprocessing
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import mlflow
import pytest

from cnnlab.settings.commands import Tracking
from cnnlab.tracking.run import open_run
from cnnlab.tracking.store import uri_of
from commands import command, composed, environment, run

QUICK = ("model=dnn", "figures.enabled=false", "tracking.log_model=false")


@pytest.fixture
def tracking(tmp_path) -> Tracking:
    uri = uri_of(tmp_path / "mlruns" / "mlflow.db")
    return Tracking.model_validate(composed(f"tracking.uri='{uri}'")["tracking"])


def hold(file: Path, seconds: float, held) -> None:
    """Keep everybody else from writing to a database."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        held.set()
        time.sleep(seconds)
        connection.execute("COMMIT")


@pytest.mark.slow
def test_a_database_locked_for_thirty_seconds_loses_nothing(tracking, tmp_path):
    fork = multiprocessing.get_context("fork")
    held = fork.Event()
    with open_run(tracking, {}) as opened:
        opened.log_metrics(1, {"train/loss": 1 / 8})
        other = fork.Process(target=hold, args=(tmp_path / "mlruns" / "mlflow.db", 30, held))
        other.start()
        assert held.wait(20)
        for epoch in range(2, 6):
            opened.log_metrics(epoch, {"train/loss": epoch / 8})
        other.join()
    client = mlflow.MlflowClient(tracking.uri)
    kept = client.get_metric_history(opened.run_id, "train/loss")
    assert [(item.step, item.value) for item in kept] == [(epoch, epoch / 8) for epoch in range(1, 6)]
    assert client.get_run(opened.run_id).info.status == "FINISHED"


@pytest.mark.slow
def test_two_sweeps_and_three_trainings_share_a_store(tmp_path):
    from subprocess import PIPE, STDOUT, Popen

    def start(door: str, *told: str) -> Popen:
        return Popen(command(door, *told), cwd=tmp_path, env=environment(), stdout=PIPE, stderr=STDOUT, text=True)

    few = ("search=mlp", "trainer.max_epochs=1", "sweep.n_trials=2", "sweep.n_workers=1", "sweep.final_seeds=0")
    processes = [start("sweep.py", "model=dnn", *few, "figures.enabled=false", f"sweep.name=s{n}") for n in range(2)]
    processes += [start("train.py", *QUICK, "trainer.max_epochs=2", f"seed={seed}") for seed in range(3)]
    said = [process.communicate(timeout=500)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 5, said
    client = mlflow.MlflowClient(uri_of(tmp_path / "mlruns" / "mlflow.db"))
    runs = client.search_runs([item.experiment_id for item in client.search_experiments()])
    assert [found.info.status for found in runs] == ["FINISHED"] * (2 * (1 + 2) + 3)


CLOCK = """
import time
from pytorch_lightning import Callback

class Back(Callback):
    def on_train_epoch_start(self, trainer, module):
        now, offset = time.time, 3600.0 * (1 + trainer.current_epoch)
        time.time = lambda: now() - offset
"""
REMOVES = """
import shutil
from pathlib import Path
from pytorch_lightning import Callback

class Removes(Callback):
    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch == 1:
            shutil.rmtree("outputs")
"""
REMOVES_AT_THE_END = """
import shutil
from pytorch_lightning import Callback

class Removes(Callback):
    def on_fit_end(self, trainer, module):
        shutil.rmtree("outputs")
"""


@pytest.mark.slow
def test_a_clock_that_goes_back_breaks_nothing(tmp_path):
    (tmp_path / "clock.py").write_text(CLOCK)
    done = run(tmp_path, "train.py", *QUICK, "trainer.max_epochs=3", "+callbacks.clock._target_=clock.Back")
    assert done.returncode == 0, done.stderr
    client = mlflow.MlflowClient(uri_of(tmp_path / "mlruns" / "mlflow.db"))
    (kept,) = client.search_runs([item.experiment_id for item in client.search_experiments()])
    assert kept.info.status == "FINISHED"
    assert kept.data.metrics["training_seconds"] > 0 and kept.data.metrics["epoch_seconds"] > 0
    steps = [item.step for item in client.get_metric_history(kept.info.run_id, "train/loss")]
    assert sorted(steps) == [1, 2, 3]


@pytest.mark.slow
def test_outputs_removed_while_running_are_made_again_or_told_in_a_line(tmp_path):
    (tmp_path / "removes.py").write_text(REMOVES)
    done = run(tmp_path, "train.py", *QUICK, "trainer.max_epochs=4", "+callbacks.mine._target_=removes.Removes")
    assert "Traceback" not in done.stderr, done.stderr
    if done.returncode:
        assert len(done.stderr.splitlines()) == 1
    else:
        assert list((tmp_path / "outputs").rglob("*.ckpt"))
    shutil.rmtree(tmp_path / "mlruns")


def test_the_best_checkpoint_removed_before_it_is_tested_is_told_in_a_line(tmp_path):
    (tmp_path / "removes.py").write_text(REMOVES_AT_THE_END)
    done = run(tmp_path, "train.py", *QUICK, "trainer.max_epochs=1", "+callbacks.mine._target_=removes.Removes")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the best checkpoint is no longer there, somebody has removed it: /")
    client = mlflow.MlflowClient(uri_of(tmp_path / "mlruns" / "mlflow.db"))
    (kept,) = client.search_runs([item.experiment_id for item in client.search_experiments()])
    assert kept.info.status == "FAILED"


@pytest.mark.slow
def test_no_environment_variable_is_kept_with_a_run(tmp_path):
    done = run(tmp_path, "train.py", *QUICK, "trainer.max_epochs=1", SOME_API_KEY="hunter2-of-the-environment")
    assert done.returncode == 0, done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert [path for path in files if b"hunter2-of-the-environment" in path.read_bytes()] == []
