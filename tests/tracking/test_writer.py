"""Epochs are written beside the training: in order, by few calls, and what goes wrong reaches the training."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing

import mlflow
import pytest
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from cnnlab.settings.commands import Tracking
from cnnlab.tracking.run import open_run
from cnnlab.tracking.writer import LARGEST_BATCH, Writer
from commands import composed


@pytest.fixture
def settings(tmp_path) -> Tracking:
    values = composed(f"tracking.uri=sqlite:///{tmp_path}/mlflow.db", "tracking.system_metrics=false")["tracking"]
    return Tracking.model_validate(values)


def test_a_training_goes_on_while_others_hold_the_database(settings, tmp_path):
    with open_run(settings, {}) as run, closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as other:
        run.log_epoch(1, {"train/loss": 1 / 8})
        run.flush()
        other.execute("BEGIN EXCLUSIVE")
        for epoch in range(2, 30):
            run.log_epoch(epoch, {"train/loss": epoch / 8})
        other.execute("COMMIT")  # reached although nothing could be written meanwhile
        run.log_metrics(30, {"train/loss": 30 / 8})
        assert run.history()["train/loss"] == {epoch: epoch / 8 for epoch in range(1, 31)}
        run.log_epoch(31, {"train/loss": 0.0})
    client = mlflow.MlflowClient(settings.uri)
    assert client.get_run(run.run_id).info.status == "FINISHED"
    steps = [entry.step for entry in client.get_metric_history(run.run_id, "train/loss")]
    assert steps == list(range(1, 32))


def test_no_thread_outlives_its_run(settings):
    with open_run(settings, {}) as run:
        run.log_epoch(1, {"train/loss": 1.0})
        thread = run.writer.thread
    thread.join(10)
    assert not thread.is_alive()


def test_a_store_that_refuses_an_epoch_fails_the_run(settings, tmp_path):
    with pytest.raises(MlflowException, match="not today"), open_run(settings, {}) as run:
        with closing(sqlite3.connect(tmp_path / "mlflow.db")) as other:
            other.execute("CREATE TRIGGER no BEFORE INSERT ON metrics BEGIN SELECT RAISE(ABORT, 'not today'); END")
        run.log_epoch(1, {"train/loss": 1.0})  # the last one: told at the end
    found = mlflow.MlflowClient(settings.uri).search_runs([run.experiment_id])[0]
    assert found.info.status == "FAILED"
    assert found.data.tags["error"].startswith("MlflowException")


def test_fast_epochs_share_calls_that_the_store_takes_and_none_follows_one_that_failed():
    calls: list[list[int]] = []
    held = threading.Event()

    def write(entries) -> None:
        assert threading.current_thread() is not threading.main_thread()
        held.wait()
        if any(entry.step == -1 for entry in entries):
            raise ZeroDivisionError
        calls.append([entry.step for entry in entries])

    writer = Writer(write)
    for step in range(2500):
        writer.put([Metric("a", 0.5, 0, step)])
    held.set()
    writer.flush()
    assert [step for call in calls for step in call] == list(range(2500))
    assert max(map(len, calls)) == LARGEST_BATCH and len(calls) < 10
    writer.put([Metric("a", 0.5, 0, -1)])
    with pytest.raises(ZeroDivisionError):
        writer.flush()
    writer.put([Metric("a", 0.5, 0, 2500)])
    writer.flush()
    assert sum(map(len, calls)) == 2500
