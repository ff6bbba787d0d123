"""The datasets of a run, of which MLflow keeps one row for all runs of an experiment."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput

TRIES = 5
PAUSE = 0.1  # seconds before the second try, and twice as many before each further one
TAKEN = ("unique constraint", "duplicate entry", "duplicate key")  # as SQLite, PostgreSQL, MySQL and SQL Server have it


def log_dataset(client: MlflowClient, run_id: str, dataset: DatasetInput) -> None:
    """Let a run name a dataset.

    MLflow looks for the dataset's row and makes it where there is none. Of two runs that begin at once both find none,
    and the second one is refused: it finds the row of the first one the next time.
    """
    from mlflow.exceptions import MlflowException

    for attempt in range(TRIES):
        try:
            client.log_inputs(run_id, [dataset])
            return
        except MlflowException as error:
            if attempt + 1 == TRIES or not any(words in str(error).lower() for words in TAKEN):
                raise
            time.sleep(PAUSE * 2**attempt)
