"""A process killed while it makes or migrates a database: the next one finds a whole database, or none, and goes on."""

from __future__ import annotations

import multiprocessing
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import optuna
import pytest

from cnnlab.errors import UsageError
from cnnlab.settings.sweep import Sweep
from cnnlab.sweeps.storage import SharedStorage, StudyLock
from cnnlab.tracking import database
from cnnlab.tracking.find import open_client, search
from cnnlab.tracking.store import prepare, uri_of
from commands import composed
from copied_stores import make_by_steps
from old_stores import of_an_older_mlflow

# Seconds after the first file appeared: what is made takes about one.
MOMENTS = (0.0, 0.05, 0.2, 0.4, 0.6, 0.8)


@pytest.fixture(autouse=True)
def by_steps(monkeypatch):
    """Make databases as MLflow does, and not as copies."""
    monkeypatch.setattr(database, "make", make_by_steps)


def killed(work: Callable[[], object], folder: Path, moment: float) -> int | None:
    """Do `work` in a process of its own and kill it some time after it begins to write to `folder`."""
    before = written(folder)
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    while written(folder) == before and process.is_alive():
        time.sleep(0.002)
    time.sleep(moment)
    process.kill()
    process.join()
    return process.exitcode


def written(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


def whole(file: Path) -> bool:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.slow
def test_a_store_whose_maker_was_killed_is_made_by_the_next_command(tmp_path):
    uri, file = uri_of(tmp_path / "mlflow.db"), tmp_path / "mlflow.db"
    in_time = 0
    for moment in MOMENTS:
        for path in tmp_path.iterdir():
            path.unlink()
        in_time += killed(lambda: prepare(uri, "x"), tmp_path, moment) == -9
        if file.exists():
            assert whole(file) and database.revision(file) == database.newest_revision()
        assert prepare(uri, "y")
        assert written(tmp_path) == {"mlflow.db"}
    assert in_time >= 3, "the kills came too late to prove anything"


def test_the_database_of_the_sweeps_whose_maker_was_killed_is_made_by_the_next_sweep(tmp_path):
    file = tmp_path / "sweeps.db"
    settings = sweep(file)
    for moment in (0.0, 0.02, 0.05, 0.1):
        for path in tmp_path.iterdir():
            path.unlink()
        killed(lambda: SharedStorage(settings, StudyLock(settings.storage, "x")), tmp_path, moment)
        assert not file.exists() or "trials" in database.tables(file)
        optuna.create_study(storage=SharedStorage(settings, StudyLock(settings.storage, "x")))
        assert written(tmp_path) == {"sweeps.db"} and whole(file)


def sweep(file: Path) -> Sweep:
    values = composed("sweep.name=s", f"sweep.storage={uri_of(file)}", config_name="sweep")["sweep"]
    return Sweep.model_validate(values)


def test_a_store_of_an_older_mlflow_is_migrated_whoever_is_killed_meanwhile(tmp_path, capsys):
    file = tmp_path / "mlflow.db"
    of_an_older_mlflow(file)
    old = database.revision(file)
    for moment in MOMENTS:
        if database.revision(file) != old:
            break
        killed(lambda: prepare(uri_of(file), "x"), tmp_path, moment)
        assert whole(file) and database.revision(file) in (old, database.newest_revision())
    capsys.readouterr()
    open_client(uri_of(file))
    assert [found.info.run_id for found in search()] == ["a" * 32]
    if said := capsys.readouterr().err.splitlines():  # unless the last process had done it when it was killed
        assert said[-1].startswith(f"{file} is migrated from MLflow's schema {old} to ")
    kept = tmp_path / f"mlflow.db.schema-{old}"
    assert database.revision(kept) == old and whole(kept)
    assert written(tmp_path) == {"mlflow.db", kept.name}


def test_a_store_that_an_older_version_half_made_is_made_anew_and_one_with_runs_is_left_alone(tmp_path, capsys):
    file = tmp_path / "mlflow.db"
    of_an_older_mlflow(file)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE _alembic_tmp_latest_metrics (x)")
        connection.execute("CREATE TABLE datasets (x)")
    before = file.read_bytes()
    with pytest.raises(UsageError, match="cannot migrate, and stays as it is: ") as caught:
        prepare(uri_of(file), "x")
    assert len(caught.value.problems) == 1 and "\n" not in caught.value.problems[0]
    assert file.read_bytes() == before and written(tmp_path) == {"mlflow.db"}
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("DELETE FROM runs")
    assert prepare(uri_of(file), "x")
    assert f"{file} was half-made and held no run: made anew" in capsys.readouterr().err
    assert written(tmp_path) == {"mlflow.db", "mlflow.db.spoiled"}


def test_a_store_of_a_newer_mlflow_or_of_another_program_is_left_alone(tmp_path):
    file = tmp_path / "mlflow.db"
    prepare(uri_of(file), "x")
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    before = file.read_bytes()
    with pytest.raises(UsageError, match=r"schema ffffffffffff, which MLflow .* cannot migrate, and stays as it is"):
        prepare(uri_of(file), "x")
    assert file.read_bytes() == before
    other = tmp_path / "sweeps.db"
    optuna.storages.RDBStorage(f"sqlite:///{other}")
    before = other.read_bytes()
    with pytest.raises(UsageError, match="is Optuna's database, not MLflow's; choose another file"):
        prepare(uri_of(other), "x")
    assert other.read_bytes() == before
