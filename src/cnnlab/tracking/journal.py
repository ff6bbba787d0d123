"""What a run has to tell a server: on this machine's disk first, in order, until the server has it.

A folder a run: `journal.jsonl`, a line a piece of news, only ever longer; `files/`, what its lines speak of; and
`acknowledged.json`, how far the server has answered. Whoever writes or delivers holds the folder's lock.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from filelock import FileLock, Timeout

from cnnlab.durable import sync

UNDELIVERED = Path("mlruns/undelivered")  # below the folder that a command runs in
LINES, ACKNOWLEDGED, FILES, LOCK = "journal.jsonl", "acknowledged.json", "files", ".lock"

Line = Mapping[str, object]


class Kind(StrEnum):
    """What a line is about; the first one is BEGIN, and so is that of each later process which goes on."""

    BEGIN = "begin"
    METRICS = "metrics"
    PARAMETERS = "parameters"
    TAGS = "tags"
    DATASET = "dataset"
    ARTIFACT = "artifact"
    MODEL = "model"
    END = "end"


@dataclass(frozen=True)
class Acknowledged:
    """What a server has answered to: all lines before `offset` (bytes); and under which names it keeps the run."""

    offset: int = 0
    run_id: str = ""
    experiment_id: str = ""
    model_id: str = ""


@dataclass
class Journal:
    """One run's folder; `append` may be called from several threads."""

    folder: Path
    acknowledged: Acknowledged = field(init=False)
    end: int = field(init=False)  # bytes of whole lines

    def __post_init__(self) -> None:
        self.folder = self.folder.absolute()
        self.lock = FileLock(self.folder / LOCK, thread_local=False)
        self.writing = threading.Lock()
        self._read_again()

    @property
    def first(self) -> Line:
        """The line that says which run this is; KeyError where it never was written."""
        for line, _ in self.lines():
            return line
        raise KeyError(f"{self.folder} has no line")

    @property
    def ended(self) -> bool:
        """Whether the run has said how it ended, after which it was not opened again."""
        kinds = [line["kind"] for line, _ in self.lines() if line["kind"] in (Kind.BEGIN, Kind.END)]
        return kinds[-1:] == [Kind.END]

    def waiting(self) -> int:
        """Return how many lines no server has acknowledged."""
        return sum(1 for _ in self.lines(self.acknowledged.offset))

    def take(self, seconds: float = 0) -> bool:
        """Hold the folder, waiting for it so long; False where another process does, or where it is gone by then."""
        try:
            self.lock.acquire(timeout=seconds)
        except Timeout:
            return False
        if not (self.folder / LINES).exists():
            self.lock.release()
            return False
        self._read_again()
        return True

    def release(self) -> None:
        """Let another process have the folder."""
        self.lock.release()

    def append(self, kind: Kind, **content: object) -> None:
        """Write a line and see it on the disk; a disk that is full leaves the lines as they were."""
        text = json.dumps({"kind": kind, **content}).encode() + b"\n"
        with self.writing, (self.folder / LINES).open("ab") as file:
            file.truncate(self.end)  # a line that was torn by a power cut
            try:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                file.truncate(self.end)
                raise
            self.end += len(text)

    def lines(self, offset: int = 0) -> Iterator[tuple[Line, int]]:
        """Yield each whole line from an offset on, and the offset behind it."""
        for text in self._whole_lines(offset):
            offset += len(text)
            yield json.loads(text), offset

    def keep(self, source: Path) -> str:
        """Copy a file or a folder beside the journal, whatever becomes of it; return the copy's path in the folder."""
        (self.folder / FILES).mkdir(exist_ok=True)
        kept = Path(tempfile.mkdtemp(dir=self.folder / FILES), source.name)
        if source.is_dir():
            shutil.copytree(source, kept)
        else:
            shutil.copyfile(source, kept)
        for file in [kept, *kept.rglob("*")]:
            if file.is_file():
                sync(file)
        return str(kept.relative_to(self.folder))

    def path(self, kept: object) -> Path:
        """Return where a kept file or folder lies."""
        return self.folder / str(kept)

    def acknowledge(self, **changes: object) -> None:
        """Note what the server has answered, so that no other process sends it again."""
        known = replace(self.acknowledged, **changes)  # type: ignore[arg-type]
        with tempfile.NamedTemporaryFile("w", dir=self.folder, delete=False) as file:
            json.dump(asdict(known), file)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(self.folder / ACKNOWLEDGED)
        self.acknowledged = known

    def drop(self, kept: object) -> None:
        """Remove a kept file or folder that the server has."""
        shutil.rmtree(self.path(kept).parent, ignore_errors=True)

    def remove(self) -> None:
        """Remove the folder, and those around it that are empty then; its lock goes with it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.release()
        for folder in (self.folder.parent, self.folder.parent.parent):
            if not folder.is_dir() or any(folder.iterdir()):
                break
            folder.rmdir()

    def _whole_lines(self, offset: int) -> Iterator[bytes]:
        file = self.folder / LINES
        if not file.exists():
            return
        with file.open("rb") as written:
            written.seek(offset)
            for text in written:
                if text.endswith(b"\n"):
                    yield text

    def _read_again(self) -> None:
        file = self.folder / ACKNOWLEDGED
        self.acknowledged = Acknowledged(**json.loads(file.read_text())) if file.exists() else Acknowledged()
        self.end = sum(map(len, self._whole_lines(0)))


def begin(name: str, root: Path = UNDELIVERED) -> Journal:
    """Return a new journal, held by this process."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / LINES).touch()
    journal = Journal(folder)
    journal.lock.acquire()
    return journal


def journals(root: Path = UNDELIVERED) -> list[Journal]:
    """Return those in which something waits, or a run is still being written, the oldest first."""
    folders = [file.parent for file in root.glob(f"*/{LINES}")]
    return [Journal(folder) for folder in sorted(folders, key=lambda folder: (folder / LINES).stat().st_ctime)]
