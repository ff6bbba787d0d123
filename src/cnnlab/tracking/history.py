"""What a run logged epoch by epoch, read back from the store: it is complete there, also for a resumed run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import mlflow

from cnnlab.tracking.schema import BEST, CURVES

# Metric name to {epoch, counted from 1: value}.
History = Mapping[str, Mapping[int, float]]


def epoch_history(client: mlflow.MlflowClient, run_id: str, names: Iterable[str] = ()) -> History:
    """Return loss, accuracy and the other metrics named of every epoch; of an epoch run twice, the later values."""
    history = {}
    for name in dict.fromkeys([*CURVES, *names]):
        entries = sorted(client.get_metric_history(run_id, name), key=lambda entry: entry.timestamp)
        history[name] = {entry.step: entry.value for entry in entries}
    return history


def at_epoch(history: History, epoch: int) -> dict[str, float]:
    """Return the measures of one epoch as metrics named `best/...`: what the kept checkpoint reached."""
    return {f"{BEST}{name}": values[epoch] for name, values in history.items() if epoch in values}
