"""SQLite databases made or migrated beside their place: a process that is killed meanwhile spoils nothing.

MLflow makes its tables in some seventy steps. Torn between two of them, the database would be refused for ever
("duplicate column name", "table _alembic_tmp_... already exists").
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from cnnlab.durable import sync
from cnnlab.errors import UsageError, disk_is_full, one_line

if TYPE_CHECKING:
    import sqlalchemy

UNFINISHED = ".{}.unfinished"  # beside the database it is to become
KEPT = "{}.schema-{}"  # a database as it was before its schema was migrated
SPOILED = "{}.spoiled"
PATIENCE = 180  # seconds that another program may hold a database: a disk may stand still for a minute
WAIT = f"PRAGMA busy_timeout = {1000 * PATIENCE}"  # milliseconds
OWN_TABLE = {"MLflow": "experiments", "Optuna": "studies"}  # a table that every database of theirs has
BOOKKEEPING = ("alembic_", "_alembic_", "sqlite_")


def wait_longer() -> None:
    """Let MLflow wait minutes for a database that another process holds; after its own 20 seconds a training failed."""
    from sqlalchemy import Engine, event

    if not event.contains(Engine, "before_cursor_execute", _waiting):
        event.listen(Engine, "before_cursor_execute", _waiting, retval=True)


def _waiting(
    connection: object, cursor: object, statement: str, parameters: object, context: object, many: bool
) -> tuple[str, object]:
    return (WAIT if statement.startswith("PRAGMA busy_timeout") else statement), parameters


def make(file: Path, fill: Callable[[sqlalchemy.Engine], object]) -> None:
    """Let `fill` make the tables of a new database `file`, which is there whole or not at all.

    Nothing where the database is there. The caller holds the lock of the database.
    """
    remove_unfinished(file)
    if is_there(file):
        return
    with _beside(file) as beside:
        _run(beside, fill)
        sync(beside)
        beside.replace(file)
        sync(file.parent)


def is_there(file: Path) -> bool:
    """Return whether a database is there; an empty file is none, as a process leaves that is killed at once."""
    return file.is_file() and file.stat().st_size > 0


def owner_of(file: Path) -> str | None:
    """Return whose database it is: MLflow's, Optuna's, or None for one of neither, and where none can be read."""
    there = tables(file) if is_there(file) else set()
    return next((program for program, table in OWN_TABLE.items() if table in there), None)


def tables(file: Path) -> set[str]:
    """Return the names of the tables of a database, without bookkeeping; none where it cannot be read."""
    try:
        return _tables(file)
    except sqlite3.Error:
        return set()


def needs_work(file: Path) -> bool:
    """Return whether `bring_up_to_date` has anything to do; a few milliseconds.

    Raises sqlite3.Error where the database cannot be read.
    """
    return _unfinished(file).exists() or not is_there(file) or revision(file) != newest_revision()


def bring_up_to_date(file: Path) -> list[str]:
    """Make MLflow's database where there is none, or migrate one of an older MLflow; return lines to be said.

    One without a run whose making was torn is set aside. The caller holds the lock of the database. Raises UsageError
    for a database of another program and for one that cannot be migrated, which stays as it is.
    """
    import mlflow
    from mlflow.store.db.utils import _initialize_tables
    from sqlalchemy.exc import OperationalError

    make(file, _initialize_tables)
    try:
        before, now = revision(file), newest_revision()
        if before == now:
            return []
        found = _tables(file)
    except sqlite3.Error as error:
        raise UsageError(f"tracking.uri: {file} cannot be read: {one_line(error)}") from error
    if found and OWN_TABLE["MLflow"] not in found:
        whose = f"{owner_of(file) or 'another program'}'s"
        raise UsageError(f"tracking.uri: {file} is {whose} database, not MLflow's; choose another file")
    try:
        _migrate(file, before)
    except UsageError:
        raise
    except Exception as error:
        if disk_is_full(error):
            raise
        if _holds_runs(file, found) or not isinstance(error, OperationalError):
            schema = f"schema {before or 'of long ago'}, which MLflow {mlflow.__version__} cannot migrate"
            raise UsageError(f"tracking.uri: {file} has {schema}, and stays as it is: {one_line(error)}") from error
        spoiled = file.with_name(SPOILED.format(file.name))
        file.replace(spoiled)
        make(file, _initialize_tables)
        return [f"{file} was half-made and held no run: made anew; what was there is now {spoiled.name}"]
    kept = KEPT.format(file.name, before)
    return [f"{file} is migrated from MLflow's schema {before} to {now}; as it was, it is kept as {kept}"]


def revision(file: Path) -> str | None:
    """Return the revision of a database's schema; None where it has none.

    Raises sqlite3.Error where it cannot be read, which says nothing about its schema.
    """
    with reading(file) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else None


@cache
def newest_revision() -> str:
    """Return the revision of the schema that the installed MLflow works with.

    Asked once a process: MLflow answers by running all its migrations' modules, whose tables stay in memory each time.
    """
    from mlflow.store.db.utils import _get_latest_schema_revision

    return str(_get_latest_schema_revision())


@contextmanager
def reading(file: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection to read a database by, which is never made by it.

    What a process has half written that was killed is taken back first, which takes more than reading.
    """
    with closing(_connected(file, "ro")) as connection:
        try:
            connection.execute("PRAGMA schema_version").fetchone()
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_READONLY"):
                raise
            with closing(_connected(file, "rw")) as writing:
                writing.execute("PRAGMA schema_version").fetchone()
        yield connection


def _connected(file: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.as_uri()}?mode={mode}", uri=True, timeout=PATIENCE)


def remove_unfinished(file: Path) -> None:
    """Remove what a killed process has left beside a database; the caller holds the lock of the database."""
    for path in (_unfinished(file), *file.parent.glob(f"{UNFINISHED.format(file.name)}-*")):  # its journals
        path.unlink(missing_ok=True)


def _migrate(file: Path, before: str | None) -> None:
    """Migrate a copy, and write it over the database in one transaction: whoever has it open sees all or nothing.

    Others wait meanwhile: what they wrote after the copy was made would be lost.
    """
    from mlflow.store.db.utils import _upgrade_db

    with closing(sqlite3.connect(file, timeout=PATIENCE, isolation_level=None)) as connection, _beside(file) as beside:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # held from the next transaction on, until it is closed
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("COMMIT")
        kept = file.with_name(KEPT.format(file.name, before))
        for place in (beside, kept):
            with closing(sqlite3.connect(place)) as copy:
                connection.backup(copy)
        sync(kept)
        try:
            _run(beside, _upgrade_db)
            with closing(sqlite3.connect(beside)) as copy:
                copy.backup(connection)
        except BaseException:
            kept.unlink()
            raise


def _run(file: Path, work: Callable[[sqlalchemy.Engine], object]) -> None:
    """Let `work` change a database that nobody else has; it is synced once, when it is whole."""
    import sqlalchemy

    address = sqlalchemy.URL.create("sqlite", database=str(file))
    engine = sqlalchemy.create_engine(address, poolclass=sqlalchemy.pool.NullPool)
    sqlalchemy.event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
    try:
        work(engine)
    finally:
        engine.dispose()


def _tables(file: Path) -> set[str]:
    with reading(file) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {name for name in names if not name.startswith(BOOKKEEPING)}


def _holds_runs(file: Path, there: set[str]) -> bool:
    if "runs" not in there:
        return False
    with reading(file) as connection:
        return connection.execute("SELECT count(*) FROM runs").fetchone()[0] > 0


def _unfinished(file: Path) -> Path:
    return file.with_name(UNFINISHED.format(file.name))


@contextmanager
def _beside(file: Path) -> Iterator[Path]:
    """Yield where a database is made or migrated; nothing is left there."""
    remove_unfinished(file)
    try:
        yield _unfinished(file)
    finally:
        remove_unfinished(file)
