"""The thread that writes a run's epochs while the run trains."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from mlflow.entities import Metric

LARGEST_BATCH = 1000  # metrics that MLflow takes at once
SHARE = 0.01  # of all time: what writing may cost
LONGEST_PAUSE = 2.0  # seconds for which an epoch waits at most, unless the store itself makes it wait


class Writer:
    """Hands metrics to `write` in their order, on a thread of its own; none after a batch that failed.

    A call of MLflow's takes the same 10 ms of Python for one epoch as for ten, and Python computes in one thread at a
    time. So after each call the thread pauses until its calls are a hundredth of all time, and epochs that come
    meanwhile go along with the next one.
    """

    def __init__(self, write: Callable[[Sequence[Metric]], object]):
        self.write = write
        self.changed = threading.Condition()
        self.waiting: list[Metric] = []
        self.writing = False
        self.hurried = False  # whether somebody waits for it
        self.failure: BaseException | None = None
        self.failed = False
        self.closed = False
        self.thread: threading.Thread | None = None
        self.seconds = 0.0  # of processor time that writing took

    def put(self, entries: Sequence[Metric]) -> None:
        """Let metrics be written; raises what made an earlier call fail."""
        with self.changed:
            self._tell_failure()
            if self.failed:
                return
            self.waiting.extend(entries)
            if self.thread is None:
                self.thread = threading.Thread(target=self._work, name="writer", daemon=True)
                self.thread.start()
            self.changed.notify_all()

    def flush(self) -> None:
        """Wait until all is written; raises what made a call fail, once."""
        with self.changed:
            self.hurried = True
            try:
                self.changed.notify_all()
                self.changed.wait_for(lambda: self.failed or not (self.waiting or self.writing))
            finally:
                self.hurried = False
            self._tell_failure()

    def close(self) -> None:
        """Let the thread end once all is written; nothing is put from then on."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def _tell_failure(self) -> None:
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure

    def _work(self) -> None:
        while not self.failed:
            with self.changed:
                self.changed.wait_for(lambda: self.closed or bool(self.waiting))
                if not self.waiting:
                    return
                batch, self.waiting = self.waiting[:LARGEST_BATCH], self.waiting[LARGEST_BATCH:]
                self.writing = True
            failure, started = None, time.thread_time()
            try:
                self.write(batch)
            except BaseException as error:  # for the thread that trains, whatever it is
                failure = error
            seconds = time.thread_time() - started
            with self.changed:
                self.seconds += seconds
                self.writing = False
                self.failure, self.failed = failure, failure is not None
                self.changed.notify_all()
                pause = min(LONGEST_PAUSE, seconds / SHARE - seconds)
                self.changed.wait_for(lambda: self.hurried or self.closed, pause)
