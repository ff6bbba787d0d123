"""Which process runs a trial, and whether that process still lives."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import psutil

CLOCK_SHIFT = 5  # seconds by which a corrected clock may move what the system tells of the same process


def this_process() -> str:
    """Return what tells this process from any other, past or present, on this machine or another."""
    return f"{machine()} {os.getpid()} {_started(os.getpid())}"


def machine() -> str:
    """Return the machine's name, with the process namespace: two containers may share a name but not their numbers."""
    namespace = Path("/proc/self/ns/pid")
    return f"{platform.node()}/{namespace.stat().st_ino if namespace.exists() else 0}"


def is_dead(owner: str) -> bool:
    """Return whether `owner` is known to be dead; of another machine nothing is known."""
    where, number, started = owner.rsplit(" ", 2)
    if where != machine():
        return False
    now = _started(int(number))
    return now is None or abs(now - int(started)) > CLOCK_SHIFT


def _started(number: int) -> int | None:
    """Return when the process with that number began, in seconds; numbers are used again. None where there is none."""
    try:
        process = psutil.Process(number)
        return None if process.status() == psutil.STATUS_ZOMBIE else round(process.create_time())
    except psutil.NoSuchProcess:
        return None
