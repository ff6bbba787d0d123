"""A SQLite store that was renamed, moved or copied with its artifacts: where MLflow looks for them is mended.

MLflow keeps every artifact location absolute, so a store's folder that has another name today would read and write in
the old place. Locations of our layout, `<folder of the database>/artifacts/...`, follow the database; all others stay.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cnnlab.tracking.database import PATIENCE, reading

# Of each table that holds locations: the column, and what our layout puts behind the experiment's folder.
COLUMNS = (
    ("experiments", "artifact_location", "''"),
    ("runs", "artifact_uri", "'/' || run_uuid || '/artifacts'"),
    ("logged_models", "artifact_location", "'/models/' || model_id || '/artifacts'"),
    ("model_versions", "source", "NULL"),
    ("model_versions", "storage_location", "NULL"),
)
ELSEWHERE = " UNION ALL ".join(
    f"SELECT '{table}', '{column}', rowid, {column}, {ending} FROM {table} "
    f"WHERE ({column} LIKE 'file:%' OR {column} LIKE '/%') "
    f"AND substr({column}, 1, length(:uri)) <> :uri AND substr({column}, 1, length(:path)) <> :path"
    for table, column, ending in COLUMNS
)


@dataclass(frozen=True)
class Location:
    """One artifact location outside the store's folder."""

    table: str
    column: str
    row: int
    address: str
    ending: str | None

    @property
    def path(self) -> str:
        """Where it is on this machine."""
        return unquote(urlsplit(self.address).path) if self.address.startswith("file:") else self.address

    @property
    def root(self) -> str:
        """The folder of the database, by our layout; nothing for any other."""
        if self.ending is None or not self.path.endswith(self.ending):
            return ""
        return self.path[: len(self.path) - len(self.ending)].rpartition("/artifacts/")[0]

    def under(self, root: str, here: Path) -> str:
        """Return the path that corresponds to it after the move from `root` to `here`."""
        return f"{here}{self.path[len(root) :]}"


@dataclass(frozen=True)
class Move:
    """Where the store was, which locations follow it, and which stay because the artifacts lie there still."""

    source: str
    following: tuple[Location, ...]
    staying: tuple[Location, ...]

    def describe(self, file: Path) -> str:
        how = "been copied" if Path(self.source, file.name).is_file() else "moved"
        return f"the store has {how} from {self.source} to {file.parent}"

    def mended(self) -> str:
        runs = sum(location.table == "runs" for location in self.following)
        return "1 run's artifact location mended" if runs == 1 else f"{runs} runs' artifact locations mended"


def moves(file: Path) -> list[Move]:
    """Return what would have to be mended in the database `file`: nothing where all is well, and where none is read."""
    return [move for move in all_moves(file) if move.following]


def all_moves(file: Path) -> list[Move]:
    """Return where the store's locations came from, also those that stay."""
    try:
        with reading(file) as connection:
            return list(_moves(connection, file.parent))
    except sqlite3.Error:  # no database, or one of an MLflow of long ago: MLflow says it better
        return []


def mend(file: Path) -> list[str]:
    """Let the locations follow the database, all or none; return a line for each place they came from.

    The caller holds the store's lock. Raises sqlite3.Error where the database cannot be written.
    """
    with closing(sqlite3.connect(file, timeout=PATIENCE, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        found = [move for move in _moves(connection, file.parent) if move.following]
        for move in found:
            for location in move.following:
                path = location.under(move.source, file.parent)
                address = Path(path).as_uri() if location.address.startswith("file:") else path
                connection.execute(
                    f"UPDATE {location.table} SET {location.column} = ? WHERE rowid = ?", (address, location.row)
                )
        connection.execute("COMMIT")
    return [f"{move.describe(file)}: {move.mended()}" for move in found]


def _moves(connection: sqlite3.Connection, here: Path) -> Iterator[Move]:
    rows = connection.execute(ELSEWHERE, {"uri": f"{here.as_uri()}/", "path": f"{here}/"})
    elsewhere = [Location(*row) for row in rows]
    for root in dict.fromkeys(location.root for location in elsewhere):
        if not root or _same(root, here):
            continue
        ours = [location for location in elsewhere if location.path.startswith(f"{root}/")]
        # A database without its artifacts, such as a backup of it alone, has not moved.
        if not any(Path(location.under(root, here)).is_dir() for location in ours if location.root == root):
            yield Move(root, (), tuple(ours))
            continue
        following: list[Location] = []
        staying: list[Location] = []
        for location in ours:
            left = Path(location.path).exists() and not Path(location.under(root, here)).exists()
            (staying if left else following).append(location)
        yield Move(root, tuple(following), tuple(staying))


def _same(root: str, here: Path) -> bool:
    """Return whether both name one folder, as a link does."""
    return Path(root).exists() and here.samefile(root)
