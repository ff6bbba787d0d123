"""Published archives: found or downloaded, and verified every time before a byte of them is used."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import logging
import os
import socket
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from cnnlab.errors import UsageError, one_line

SECONDS_WITHOUT_AN_ANSWER = 30
LARGEST = 100_000_000  # bytes of a file in an archive; the largest of a published one, MNIST's images, has 47 million

log = logging.getLogger(__name__)


def obtain(
    dataset: str, folder: Path, md5s: Mapping[str, str], mirrors: Sequence[str], download: bool
) -> dict[str, bytes]:
    """Return the contents of the files of `folder` named in `md5s`, verified.

    A missing file is fetched from the first of `mirrors` (URL prefixes) that has it intact, if `download` says so.
    Raises UsageError when a file is missing and cannot be fetched, or is not the published one.
    """

    def missing() -> list[str]:
        return [name for name in md5s if not (folder / name).is_file()]

    if missing():
        absent = f"dataset={dataset} is missing from {folder}: expected {', '.join(missing())}"
        remedy = "copy the files there, set dataset.root, or use dataset=digits, which needs no download"
        if not download:
            raise UsageError(f"{absent}; dataset.download=false: {remedy}")
        try:
            _download(folder, missing, md5s, mirrors)
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            raise UsageError(f"{absent}; the download failed ({one_line(error)}): {remedy}") from error
    return verified(folder, md5s)


def verified(folder: Path, md5s: Mapping[str, str]) -> dict[str, bytes]:
    """Return the contents of the files of `folder` named in `md5s`; raise UsageError naming those not as published."""
    contents = {}
    problems = []
    for name, expected in md5s.items():
        path = folder / name
        try:
            contents[name] = path.read_bytes()
        except OSError as error:
            problems.append(f"{path} cannot be read: {error.strerror}")
            continue
        found = hashlib.md5(contents[name], usedforsecurity=False).hexdigest()
        if found != expected:
            problems.append(
                f"{path} is truncated or altered: expected MD5 {expected}, found {found}; "
                "delete it, and the next run downloads it again"
            )
    if problems:
        raise UsageError(*problems)
    return contents


def read_bounded(file: IO[bytes] | io.BufferedIOBase, name: str) -> bytes:
    """Return what a compressed file holds; raise UsageError, without reading on, for one that would fill the memory."""
    try:
        content = file.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{name} cannot be decompressed: {one_line(error)}") from error
    if len(content) > LARGEST:
        raise UsageError(f"{name} holds more than {LARGEST} bytes, which no published archive does; delete it")
    return content


def _download(folder: Path, missing: Callable[[], list[str]], md5s: Mapping[str, str], mirrors: Sequence[str]) -> None:
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    # Whoever waited for the lock finds the files there.
    with FileLock(folder / ".download.lock"):
        for name in missing():
            _fetch(folder, name, md5s[name], mirrors)


def _fetch(folder: Path, name: str, md5: str, mirrors: Sequence[str]) -> None:
    from torchvision.datasets.utils import download_url

    # Renamed when complete and intact: a killed download never leaves a file under the real name.
    partial = folder / f"{name}.part"
    failures = []
    for mirror in mirrors:
        log.info("downloading %s%s to %s", mirror, name, folder)
        try:
            with _impatient(), contextlib.redirect_stderr(io.StringIO()):
                download_url(f"{mirror}{name}", os.fspath(folder), filename=partial.name, md5=md5)
            partial.replace(folder / name)
            return
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            failures.append(f"{mirror}{name}: {one_line(error)}")
        finally:
            partial.unlink(missing_ok=True)
    raise OSError("; ".join(failures))


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """Give up on a server that stays silent; urllib waits for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SECONDS_WITHOUT_AN_ANSWER)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
