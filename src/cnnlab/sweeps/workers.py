"""The workers of one launch: started with their share of the machine, watched, and started again when they die."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from cnnlab.process import share, share_of_cores
from cnnlab.settings.sweep import WorkerOrder
from cnnlab.start import importing
from cnnlab.sweeps.worker import DISK_FULL, HOPELESS

PATIENCE = 60.0  # seconds a worker has to end its trial before it is killed
DEATHS = 10  # of workers, without a trial ending in between, after which starting more is pointless


class WorkersFailed(Exception):
    """The workers cannot go on; the message is the reason."""


@dataclass
class WorkerPool:
    """A number of worker processes; use it with `with`, so that none outlives its launch."""

    order: WorkerOrder
    size: int
    devices: list[str]
    folder: Path
    processes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    logs: list[IO[bytes]] = field(default_factory=list)
    deaths: int = 0

    def __enter__(self) -> WorkerPool:
        self.folder.mkdir(parents=True, exist_ok=True)
        for index in range(self.size):
            self.start(index, reseed=index > 0)
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self, index: int, *, reseed: bool) -> None:
        """Start worker `index` in a session of its own: Ctrl-C reaches the launch alone, which ends its workers."""
        log = self.log_file(index).open("ab")
        group = self.order.sweep.devices_per_trial
        threads = share_of_cores(self.size * group)
        own = {"PYTHONUNBUFFERED": "1"} | importing()
        environment = os.environ | share(index, threads, self.devices, group) | own
        process = subprocess.Popen(
            [sys.executable, "-m", "cnnlab.sweeps.worker"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        self.processes[index] = process
        self.logs.append(log)
        assert process.stdin is not None
        search = self.order.search
        if search is not None and reseed:
            search = search.model_copy(update={"reseed": True})
        order = self.order.model_copy(update={"threads": threads, "search": search})
        try:
            process.stdin.write(order.model_dump_json(by_alias=True).encode())
            process.stdin.close()
        except BrokenPipeError:
            pass  # it died already; supervise() will see

    def supervise(self, progressed: bool) -> bool:
        """Start dead workers again; return whether any is at work. `progressed`: a trial ended since the last call.

        Raises WorkersFailed when all trials fail or workers die faster than they finish trials, and OSError when the
        disk is full.
        """
        if progressed:
            self.deaths = 0
        for index, process in list(self.processes.items()):
            code = process.poll()
            if code is None:
                continue
            del self.processes[index]
            if code == HOPELESS:
                raise WorkersFailed("every trial failed")
            if code == DISK_FULL:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if code != 0:
                self.deaths += 1
                if self.deaths > DEATHS:
                    raise WorkersFailed(
                        f"workers die (exit code {code}); the end of {self.log_file(index)}:\n{self.tail(index)}"
                    )
                self.start(index, reseed=True)
        return bool(self.processes)

    def stop(self) -> None:
        """Ask all workers to end their trial as interrupted, wait, and kill those that do not listen."""
        for process in self.processes.values():
            process.terminate()
        deadline = time.monotonic() + PATIENCE
        for process in self.processes.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()
        for log in self.logs:
            log.close()
        self.logs.clear()

    def log_file(self, index: int) -> Path:
        return self.folder / f"worker-{index}.log"

    def tail(self, index: int) -> str:
        """Return the last lines a worker said."""
        return "\n".join(self.log_file(index).read_text(errors="replace").splitlines()[-5:])
