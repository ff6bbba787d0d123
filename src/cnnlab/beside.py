"""Work done beside this process by a copy of it, on another core, which has all that this one has."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import TypeVar

from cnnlab.lean import wait_for_imports
from cnnlab.process import available_cores
from cnnlab.signals import numbers

T = TypeVar("T")

DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux' prctl(2)


def can_be_copied() -> bool:
    """Return whether a copy of this process helps: on Linux, whose libraries bear it, with a core to spare."""
    return sys.platform == "linux" and available_cores() > 1


@contextmanager
def beside(work: Callable[[], T]) -> Iterator[Callable[[], T]]:
    """Start `work` in a copy of this process; yield what waits for it, and returns or raises what it did.

    For work that reads what this process has, on the CPU, and writes files alone: of what else it changes nothing is
    seen here. Where there are no copies, or the copy dies, it is done here when it is waited for. Nobody who leaves the
    block early leaves a copy behind.
    """
    if not can_be_copied():
        yield work
        return
    # A lock of Python's importing that another thread holds now would be held in the copy for ever.
    wait_for_imports()
    ours, theirs = multiprocessing.Pipe(duplex=False)
    copied = multiprocessing.get_context("fork").Process(target=_be_copy, args=(work, theirs, os.getpid()), daemon=True)
    copied.start()
    theirs.close()

    def wait() -> T:
        try:
            result, error, told = ours.recv()
        except EOFError:  # it has died: of too little memory, say
            return work()
        if error is not None:
            error.add_note(told)
            raise error
        value: T = result
        return value

    try:
        yield wait
    finally:
        copied.kill()
        copied.join()
        ours.close()


def _be_copy(work: Callable[[], object], pipe: Connection[object, object], parent: int) -> None:
    """Do the work, send what came of it and end at once: all there is to clear up is the other process'."""
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    for number in numbers():
        signal.signal(number, signal.SIG_IGN)  # the other one is asked as well, and ends its copy
    gc.disable()  # garbage may be somebody's connection, which would be closed for both
    import torch

    torch.set_num_threads(1)  # those of the other process are not here
    answer: tuple[object, Exception | None, str]
    try:
        answer = work(), None, ""
    except Exception as error:
        answer = None, error, "".join(traceback.format_exception(error))
    try:
        pipe.send(answer)
    except Exception:  # it cannot be sent: the other one does the work again and sees for itself
        os._exit(1)
    os._exit(0)
