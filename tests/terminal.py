"""A command on a terminal of 80 columns, as its user sees it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Sequence
from pathlib import Path

from commands import environment

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_terminal(folder: Path, arguments: Sequence[str], columns: int = 80, **variables: str) -> tuple[int, list[str]]:
    """Return the exit code and every line that stood on the screen, also those that were drawn over."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    seen = environment(TERM="xterm", **variables)
    del seen["COLUMNS"]
    process = subprocess.Popen(arguments, cwd=folder, env=seen, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux tells the end of a terminal so
            break
        if not part:
            break
        said += part
    os.close(ours)
    lines = re.split(r"[\r\n]+", CONTROL.sub("", said.decode()))
    return process.wait(), [line.rstrip() for line in lines]
