"""Files that outlast a loss of power, and say it when the disk is full."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(file: Path, fill: Callable[[io.BytesIO], object]) -> None:
    """Write a file through memory; raises the system's own OSError where that fails.

    Torch's writer says of a full disk that a position is unexpected, and, given a file of Python's, ends the process.
    """
    content = io.BytesIO()
    fill(content)
    file.write_bytes(content.getbuffer())
