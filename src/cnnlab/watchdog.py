"""Ends a process whose main thread waits for others that will never answer."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cnnlab.signals import numbers

POLL = 0.5  # seconds
GRACE = 10.0  # seconds the main thread has to end by itself


@contextmanager
def watchdog(
    waits: Callable[[], bool], lost: Callable[[], str | None], end: Callable[[str, int | None], None]
) -> Iterator[None]:
    """Watch the block from a thread, and end the process where its main thread cannot.

    A thread that waits inside C++ for a process that is gone, or stopped, runs no handler of signals and sees no
    exception. `waits` says whether it might, `lost` who is gone. After a while without reaction `end` is called with
    that, or with the name of a signal and its number, and the process exits.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    done = threading.Event()

    def watch() -> None:
        number, since = None, None
        while not done.is_set():
            if select.select([reader], [], [], POLL)[0]:
                arrived = [item for item in reader.recv(64) if item in numbers()]
                number = arrived[-1] if arrived else number
            reason = signal.Signals(number).name if number else lost()
            if reason is None or not waits():
                since = None
                continue
            since = since or time.monotonic()
            if time.monotonic() - since > GRACE and not done.is_set():
                try:
                    end(reason, number)
                finally:
                    os._exit(1 if number is None else 128 + number)

    thread = threading.Thread(target=watch, name="watchdog", daemon=True)
    main = threading.current_thread() is threading.main_thread()
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False) if main else -1
    thread.start()
    try:
        yield
    finally:
        done.set()
        if main:
            signal.set_wakeup_fd(before, warn_on_full_buffer=False)
        thread.join()
        reader.close()
        writer.close()
