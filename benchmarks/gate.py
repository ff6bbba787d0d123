"""Where a contestant waits for its turn, between two epochs: one trains at a time, and all trainings stay alive.

Needs the standard library alone, so that it runs where Keras is installed and cnnlab is not.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path

CHANNEL = "CNNLAB_BENCHMARK_CHANNEL"  # the number of an inherited socket
TASK = "CNNLAB_BENCHMARK_TASK"  # what all contestants train, a JSON file
GO = "epoch"


class Gate:
    """One end of a contestant's channel; the other one is `turns.Turn`."""

    def __init__(self, **versions: str):
        self.channel = socket.socket(fileno=int(os.environ[CHANNEL])).makefile("rw")
        self.started: float | None = None  # later by as long as the clock stood
        self.paused = 0.0
        self._say({"python": sys.version.split()[0], **versions})

    @property
    def running(self) -> bool:
        """Whether an epoch is under way."""
        return self.started is not None

    def begin(self) -> None:
        """Wait for the word, then start the clock; the process ends where none comes any more."""
        if self.channel.readline().strip() != GO:
            sys.exit(0)
        self.started = time.perf_counter()

    def end(self, **means: float) -> None:
        """Stop the clock and tell the seconds, and the epoch's means over the training images."""
        assert self.started is not None
        seconds = all_done() - self.started
        self._say({"seconds": seconds, **{key: float(it) for key, it in means.items()}})
        self.started = None

    def pause(self) -> None:
        """Stop the clock until `go_on`: what comes now is no part of an epoch."""
        self.paused = all_done()

    def go_on(self) -> None:
        """Let the clock run again."""
        if self.started is not None:
            self.started += time.perf_counter() - self.paused

    def _say(self, what: Mapping[str, object]) -> None:
        self.channel.write(json.dumps(what) + "\n")
        self.channel.flush()


def all_done() -> float:
    """Return the time after what a GPU has been given to do is done."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def task() -> dict:
    """Return what all contestants train: see `recipes.Task`."""
    return json.loads(Path(os.environ[TASK]).read_text(encoding="utf-8"))
