"""One lock a study that every process of every machine respects, and that a killed process lets go."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy
from filelock import FileLock

from cnnlab.errors import UsageError
from cnnlab.tracking.store import sqlite_file

ALLOWED = "allowed: sqlite:///FILE (one machine), postgresql://USER:PASSWORD@HOST/DATABASE (any number)"


class StudyLock:
    """Held with `with`, also within itself: a file beside a SQLite database, an advisory lock in PostgreSQL.

    Raises UsageError for any other address.
    """

    file_lock: FileLock | None = None
    engine: sqlalchemy.Engine | None = None

    def __init__(self, url: str, name: str):
        file = sqlite_file(url)
        if problems := check_storage(url):
            raise UsageError(*problems)
        self.depth = 0
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            self.file_lock = FileLock(file.with_name(f".{file.name}.lock"))
        else:
            # Its own connection, closed after use: nothing else may end the session that holds the lock.
            self.engine = sqlalchemy.create_engine(driver_url(url), poolclass=sqlalchemy.pool.NullPool)
            self.key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), signed=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock over a block; wait for it first."""
        if self.file_lock is not None:
            with self.file_lock:
                yield
            return
        assert self.engine is not None
        if self.depth:
            yield
            return
        with self.engine.connect() as connection:
            connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": self.key})
            self.depth += 1
            try:
                yield
            finally:
                self.depth -= 1
                connection.execute(sqlalchemy.text("SELECT pg_advisory_unlock(:key)"), {"key": self.key})


def check_storage(url: str) -> list[str]:
    """Return what is wrong with a study's address, without opening it."""
    if sqlite_file(url) is not None or url.split(":")[0].split("+")[0] == "postgresql":
        return []
    return [f"sweep.storage={hidden(url)!r} is not an address a sweep can use; {ALLOWED}"]


def driver_url(url: str) -> str:
    """Return the address with the driver this project installs: `postgresql://` alone may mean another one."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


def hidden(url: str) -> str:
    """Return the address as it may be shown: without its password."""
    try:
        return sqlalchemy.make_url(url).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        return url
