"""A database that a killed process has left half written, and one that others write to or hold."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from cnnlab.errors import UsageError
from cnnlab.tracking import database
from cnnlab.tracking.store import prepare, uri_of
from old_stores import of_an_older_mlflow

FORK = multiprocessing.get_context("fork")


def tear(file: Path) -> None:
    """Kill a process while it writes to a database, whose journal and half of the new pages are on the disk by then."""

    def write() -> None:
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("PRAGMA cache_size = 1")
            connection.execute("BEGIN IMMEDIATE")
            for number in range(3000):
                connection.execute("INSERT INTO experiments (name) VALUES (?)", (f"torn {number} " * 20,))
            os.kill(os.getpid(), signal.SIGKILL)

    process = FORK.Process(target=write)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert file.with_name(f"{file.name}-journal").stat().st_size > 0
    reader = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    with closing(reader), pytest.raises(sqlite3.OperationalError):  # reading cannot take back what was half written
        reader.execute("SELECT * FROM experiments")


def names(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM experiments ORDER BY experiment_id")]


def test_a_store_whose_writer_was_killed_is_opened_by_the_next_command(tmp_path, capsys):
    file = tmp_path / "mlflow.db"
    prepare(uri_of(file), "first")
    before = names(file)
    tear(file)
    prepare(uri_of(file), "second")
    assert names(file) == [*before, "second"]
    assert capsys.readouterr().err == ""
    assert not list(tmp_path.glob("*.schema-*"))


def test_a_store_that_others_hold_is_not_taken_for_one_of_an_older_mlflow(tmp_path, monkeypatch, capsys):
    file = tmp_path / "mlflow.db"
    prepare(uri_of(file), "first")
    monkeypatch.setattr(database, "PATIENCE", 0.1)
    with closing(sqlite3.connect(file, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UsageError) as caught:
            prepare(uri_of(file), "second")
    assert caught.value.problems == [f"tracking.uri='{uri_of(file)}' cannot be opened: database is locked"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mlflow.db.lock", "mlflow.db"]
    prepare(uri_of(file), "second")
    assert capsys.readouterr().err == ""


def test_what_others_write_while_a_store_is_migrated_is_kept(tmp_path, monkeypatch):
    file = tmp_path / "mlflow.db"
    of_an_older_mlflow(file)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE others (number INTEGER)")
    ended, begun, written = FORK.Event(), FORK.Event(), FORK.Value("i", 0)

    def write() -> None:
        with closing(sqlite3.connect(file, timeout=60)) as connection:
            while not ended.is_set():
                with connection:
                    connection.execute("INSERT INTO others VALUES (?)", (written.value,))
                written.value += 1
                begun.set()
                time.sleep(0.01)  # SQLite is not fair: one that writes without a pause keeps all others waiting

    other = FORK.Process(target=write)
    other.start()
    assert begun.wait(20)
    try:
        prepare(uri_of(file), "x")
    finally:
        ended.set()
        other.join()
    assert database.revision(file) == database.newest_revision()
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT count(*) FROM others").fetchone() == (written.value,)
