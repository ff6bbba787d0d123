"""Ctrl-C, SIGTERM and a closed terminal, as one exception that nobody swallows on the way."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ASKING = ("SIGINT", "SIGTERM", "SIGHUP")
WARNED = ("SIGUSR1", "SIGUSR2")  # what SLURM is asked to send before a job's time is up
PATIENCE = 3.0  # seconds that closing a run may take after a signal until a second one ends the process as it is


class Interruption(BaseException):
    """The process was asked to stop. Not a KeyboardInterrupt: Lightning turns that into a plain exit with code 1."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.name = signal.Signals(number).name
        self.exit_code = 128 + number


def numbers() -> list[int]:
    """Return the signals that ask this process to stop; under SLURM also those that warn it."""
    names = (*ASKING, *WARNED) if "SLURM_JOB_ID" in os.environ else ASKING
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


def notes_of(interruption: BaseException | None) -> list[str]:
    """Return what was noted on an interruption, or on the first one where a second signal followed."""
    while interruption is not None:
        if notes := getattr(interruption, "__notes__", None):
            return list(notes)
        interruption = interruption.__context__
    return []


def _raise(number: int, frame: FrameType | None) -> None:
    raise Interruption(number)


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Interruption` in the main thread on a signal; leave signals alone that somebody ignores (nohup)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers()}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _raise)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deferred() -> Iterator[None]:
    """Hold signals back over a few lines that must not be torn, and deliver the last one afterwards.

    Opening a run and writing its final status are such lines: an impatient second Ctrl-C must not lose the status. But
    where they take longer than some seconds, it ends the process at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    started = time.monotonic()

    def hold(number: int, frame: FrameType | None) -> None:
        if time.monotonic() - started > PATIENCE:
            os._exit(128 + number)
        arrived.append(number)

    before = {number: signal.getsignal(number) for number in numbers()}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, hold)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[-1])
