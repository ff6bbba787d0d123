"""Tracking stores as copies of one that MLflow has made: its seventy steps take more than a second each time."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path

from cnnlab.tracking import database

MLFLOW = "_initialize_tables"  # of mlflow.store.db.utils
make_by_steps = database.make  # as a user's process does


def copy_stores() -> None:
    """Let this process make each new MLflow database as a copy; the first one that it needs takes all steps."""
    from mlflow.store.db import utils

    database.make = make
    utils._get_latest_schema_revision = cache(utils._get_latest_schema_revision)  # reads all steps each time


def make(file: Path, fill: Callable[[object], object]) -> None:
    """Make a database as `cnnlab.tracking.database.make` does."""

    def copy(engine) -> None:
        with closing(engine.raw_connection()) as connection:
            made(fill).backup(connection.driver_connection)

    make_by_steps(file, copy if fill.__name__ == MLFLOW else fill)


@cache
def made(fill: Callable[[object], object]) -> sqlite3.Connection:
    """Return a database in memory which MLflow has filled, once a process and its forks."""
    from sqlalchemy import StaticPool, create_engine

    connection = sqlite3.connect(":memory:", check_same_thread=False)
    logging.disable(logging.INFO)
    try:
        fill(create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool))
    finally:
        logging.disable(logging.NOTSET)
    return connection
