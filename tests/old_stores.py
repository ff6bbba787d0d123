"""Stores as older versions of MLflow have made them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

FIRST_SCHEMA = "451aebb31d03"  # of MLflow's first revision with a database


def of_an_older_mlflow(file: Path) -> None:
    """Make a database as MLflow 1.0 had it, with one run."""
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine

    engine = create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        Base.metadata.create_all(connection)
        config = _get_alembic_config(str(engine.url))
        config.attributes["connection"] = connection
        command.upgrade(config, FIRST_SCHEMA)
    engine.dispose()
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(
            "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) "
            "VALUES (0, 'Default', './mlruns/0', 'active')"
        )
        connection.execute(
            "INSERT INTO runs (run_uuid, name, status, start_time, lifecycle_stage, experiment_id, artifact_uri, "
            "source_type, user_id) VALUES (?, 'old', 'FINISHED', 1, 'active', 0, './mlruns/0/x', 'LOCAL', 'me')",
            ("a" * 32,),
        )
