"""Whether another process still lives: told by its machine, its number and its start, since numbers are used again."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import psutil

UNKNOWN = "0"
CLOCK_SHIFT = 5  # seconds by which a corrected clock may move what macOS tells of the same process


def this_process() -> str:
    """Return what tells this process from any other, past or present, on this machine or another."""
    return f"{machine()} {os.getpid()} {_started(os.getpid())}"


def machine() -> str:
    """Return this machine's name, its permanent id, its start and the process namespace.

    Two containers may share a name but not their numbers; two machines may share a name but not their id.
    """
    namespace = Path("/proc/self/ns/pid")
    inode = namespace.stat().st_ino if namespace.exists() else UNKNOWN
    return f"{platform.node()}/{_line('/etc/machine-id')}/{_line('/proc/sys/kernel/random/boot_id')}/{inode}"


def is_here(process: str) -> bool:
    """Return whether `process`, as `this_process` has it, is one of this machine since its start, dead or alive."""
    return process.rsplit(" ", 2)[0] == machine()


def is_dead(process: str) -> bool:
    """Return whether `process`, as `this_process` has it, is known to be dead; of another machine nothing is known."""
    where, number, started = process.rsplit(" ", 2)
    theirs, ours = where.split("/"), machine().split("/")
    if len(theirs) != len(ours) or theirs[0] != ours[0] or not (number.isdigit() and started.isdigit()):
        return False
    if theirs[2] != ours[2]:  # this machine before its last start, unless it is another one of the same name
        return theirs[1] == ours[1] != UNKNOWN
    if theirs[3] != ours[3]:
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):  # somebody else's, who may hide when it began
        pass
    now = _started(int(number))
    return now is not None and abs(now - int(started)) > (0 if _counts_ticks() else CLOCK_SHIFT)


def _started(number: int) -> int | None:
    """Return when the process with that number began; 0, before all times, of a dead one that is not buried yet.

    In clock ticks since the machine's start, which no change of the clock moves; where there are none, in seconds
    since 1970. None where it cannot be known.
    """
    try:
        if _counts_ticks():
            # The name in parentheses may hold spaces; the state follows it, and the start is the 20th value from there.
            values = Path(f"/proc/{number}/stat").read_text(errors="replace").rpartition(")")[2].split()
            return 0 if values[0] in "ZX" else int(values[19])
        process = psutil.Process(number)
        return 0 if process.status() == psutil.STATUS_ZOMBIE else round(process.create_time())
    except (OSError, IndexError, psutil.Error):
        return None


def _counts_ticks() -> bool:
    return Path("/proc/self/stat").exists()


def _line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip() or UNKNOWN
    except (OSError, ValueError):
        return UNKNOWN
