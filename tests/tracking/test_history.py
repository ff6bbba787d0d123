"""Sorting runs by `val/acc`, as anybody would, sorts them by the checkpoint that was kept."""

from __future__ import annotations

import mlflow
import pytest
from mlflow.entities import Metric

from cnnlab.tracking.history import epoch_history
from cnnlab.tracking.store import prepare
from commands import run

SMALL = ("model=dnn", "model.hidden_units=[16]", "figures.enabled=false", "tracking.log_model=false")
# A step a hundred times too large after the second epoch undoes what was learned.
SPOILED = ("~scheduler", "+scheduler={_target_:torch.optim.lr_scheduler.StepLR,step_size:2,gamma:300}")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two runs: one whose best epoch is the second of three, and one of a single, middling epoch."""
    folder = tmp_path_factory.mktemp("kept")
    for name, overrides in (
        ("spoiled", (*SPOILED, "trainer.max_epochs=3", "callbacks=best_checkpoint")),
        ("short", ("trainer.max_epochs=1",)),
    ):
        done = run(folder, "train.py", *SMALL, *overrides, f"tracking.run_name={name}", "optimizer.lr=0.005")
        assert done.returncode == 0, done.stderr
    return mlflow.MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")


@pytest.mark.slow
def test_the_obvious_query_finds_the_best_checkpoint(store):
    mlflow.set_tracking_uri(store.tracking_uri)
    found = mlflow.search_runs(search_all_experiments=True, order_by=["metrics.`val/acc` DESC"])
    spoiled, short = (found[found["tags.mlflow.runName"] == name].iloc[0] for name in ("spoiled", "short"))
    last = {entry.step: entry.value for entry in store.get_metric_history(spoiled.run_id, "val/acc")}[3]
    assert last < short["metrics.val/acc"] < spoiled["metrics.best/val/acc"], "the last epochs are in another order"
    assert list(found["tags.mlflow.runName"]) == ["spoiled", "short"]


def test_all_validation_metrics_of_the_kept_epoch_are_the_last_ones(store):
    found = {run.info.run_name: run for run in store.search_runs(["1"])}
    metrics = found["spoiled"].data.metrics
    assert metrics["best_epoch"] == 2 and metrics["epochs"] == 3
    assert metrics["val/loss"] == metrics["best/val/loss"] and metrics["val/acc"] == metrics["best/val/acc"]
    objectives = {
        entry.step: entry.value for entry in store.get_metric_history(found["spoiled"].info.run_id, "val/objective")
    }
    assert sorted(objectives) == [1, 2, 3, 4] and objectives[4] == objectives[2]
    assert [entry.step for entry in store.get_metric_history(found["short"].info.run_id, "val/acc")] == [1]


def test_what_reads_epochs_sees_epochs_alone(store):
    found = {run.info.run_name: run.info.run_id for run in store.search_runs(["1"])}
    history = epoch_history(store, found["spoiled"])
    assert len(history) == 4 and all(sorted(values) == [1, 2, 3] for values in history.values())


def test_an_epoch_that_was_run_again_counts_and_not_what_stood_at_its_step(tmp_path):
    """A run that goes on after its end has an epoch where the kept validation stood."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    experiment = prepare(uri, "x")
    client = mlflow.MlflowClient(uri)
    run_id = client.create_run(experiment).info.run_id
    entries = [("train/loss", 3, 1, 1), ("val/loss", 3, 1, 1), ("val/loss", 9, 2, 2), ("train/loss", 2, 3, 2)]
    entries += [("val/loss", 2, 3, 2), ("val/loss", 2, 4, 3)]
    client.log_batch(run_id, [Metric(name, value, time, step) for name, value, time, step in entries])
    assert epoch_history(client, run_id)["val/loss"] == {1: 3, 2: 2}
