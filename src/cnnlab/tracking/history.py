"""What a run logged epoch by epoch, read back from the store: it is complete there, also for a resumed run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import mlflow

from cnnlab.tracking.schema import BEST, CURVES, Metric

# Metric name to {epoch, counted from 1: value}.
History = Mapping[str, Mapping[int, float]]


def epoch_history(client: mlflow.MlflowClient, run_id: str, names: Iterable[str] = ()) -> History:
    """Return loss, accuracy and the other metrics named of every epoch; of an epoch run twice, the later values.

    What stands behind the last epoch is no epoch, but the kept checkpoint's validation once more.
    """
    history = {name: _by_step(client, run_id, name) for name in dict.fromkeys([*CURVES, *names])}
    last = max(history[Metric.TRAIN_LOSS], default=0)
    return {name: {epoch: values[epoch] for epoch in values if epoch <= last} for name, values in history.items()}


def _by_step(client: mlflow.MlflowClient, run_id: str, name: str) -> dict[int, float]:
    entries = sorted(client.get_metric_history(run_id, name), key=lambda entry: entry.timestamp)
    return {entry.step: entry.value for entry in entries}


def at_epoch(history: History, epoch: int) -> dict[str, float]:
    """Return the measures of one epoch as metrics named `best/...`: what the kept checkpoint reached."""
    return {f"{BEST}{name}": values[epoch] for name, values in history.items() if epoch in values}


def logged_steps(client: mlflow.MlflowClient, run_id: str) -> frozenset[tuple[str, int]]:
    """Return the name and step of every metric that a run has."""
    names = client.get_run(run_id).data.metrics
    return frozenset((name, entry.step) for name in names for entry in client.get_metric_history(run_id, name))
