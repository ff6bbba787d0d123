"""The thread that delivers a run's journal while the run trains; nothing waits for it but, shortly, the run's end."""

from __future__ import annotations

import threading
import time

from cnnlab.errors import UsageError
from cnnlab.signals import Interruption
from cnnlab.tracking.delivery import Delivery
from cnnlab.tracking.journal import Journal
from cnnlab.tracking.reach import reason_of

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0  # seconds between two attempts at a server that is away
SILENCE = 5.0  # seconds without an answer after which the end of a run waits no longer
LONGEST = 15.0  # seconds that it waits at all
SPEED = 1_000_000  # bytes a second that it allows for files beside


class Courier:
    """Delivers what is appended to a journal until the run has ended and the server has everything."""

    def __init__(self, journal: Journal, uri: str):
        self.journal = journal
        self.delivery = Delivery(journal, uri)
        self.news = threading.Event()
        self.ending = threading.Event()
        self.failure: str | None = None  # of the last attempt
        self.progress = time.monotonic()  # when the server last answered
        self.thread = threading.Thread(target=self._deliver, name="courier", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def tell(self) -> None:
        """Say that something was appended."""
        self.news.set()

    def finish(self) -> str | None:
        """Wait until the server has everything, but not long; return why something still waits, if it does.

        Whoever presses Ctrl-C meanwhile waits no longer. The thread goes on for as long as its process lives.
        """
        self.ending.set()
        self.news.set()
        begun = time.monotonic()
        size = sum(file.stat().st_size for file in self.journal.folder.rglob("*") if file.is_file())
        try:
            while self.thread.is_alive():
                self.thread.join(0.05)
                now = time.monotonic()
                if now - max(begun, self.progress) > SILENCE + self.delivery.sending / SPEED:
                    return self.failure or "no answer"
                if now - begun > LONGEST + size / SPEED:
                    return self.failure or "its answers are slow"
        except Interruption:
            return self.failure or "interrupted"
        return None

    def _deliver(self) -> None:
        pause = FIRST_PAUSE
        while True:
            self.news.clear()
            try:
                while self.delivery.step():
                    self.progress, pause = time.monotonic(), FIRST_PAUSE
                self.failure = None
            except Exception as error:  # MLflow's, requests', of the stores of artifacts
                self.failure = "; ".join(error.problems) if isinstance(error, UsageError) else reason_of(error)
                if self.ending.is_set():
                    time.sleep(FIRST_PAUSE)
                else:
                    self.ending.wait(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
                continue
            if self.ending.is_set() and not self.journal.waiting():
                self.journal.remove()
                return
            self.news.wait()
