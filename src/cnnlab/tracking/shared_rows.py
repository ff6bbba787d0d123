"""Rows of MLflow's that several processes may want to make at once: those of datasets and of experiments' tags."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput

TRIES = 5
PAUSE = 0.1  # seconds before the second try, and twice as many before each further one
TAKEN = ("unique constraint", "duplicate entry", "duplicate key")  # as SQLite, PostgreSQL, MySQL and SQL Server have it


def made_once(make: Callable[[], object]) -> None:
    """Let MLflow make a row that others may be making, too.

    It looks for the row and makes it where there is none. Of two that begin at once both find none, and the second one
    is refused: it finds the row of the first one the next time.
    """
    from mlflow.exceptions import MlflowException

    for attempt in range(TRIES):
        try:
            make()
            return
        except MlflowException as error:
            if attempt + 1 == TRIES or not any(words in str(error).lower() for words in TAKEN):
                raise
            time.sleep(PAUSE * 2**attempt)


def log_dataset(client: MlflowClient, run_id: str, dataset: DatasetInput) -> None:
    """Let a run name a dataset, whose row is that of all runs of the experiment."""
    made_once(lambda: client.log_inputs(run_id, [dataset]))


def tag_experiment(client: MlflowClient, experiment_id: str, key: str, value: str) -> None:
    """Give an experiment a tag."""
    made_once(lambda: client.set_experiment_tag(experiment_id, key, value))
