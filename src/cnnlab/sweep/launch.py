"""The workers of one launch: started with their share of the machine, watched, and started again when they die."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from cnnlab.sweep.worker import DISK_FULL, HOPELESS

PATIENCE = 60.0  # seconds a worker has to end its trial before it is killed
DEATHS = 10  # of workers, without a trial ending in between, after which starting more is pointless


class WorkersFailed(Exception):
    """The workers cannot go on; the message is the reason."""


@dataclass
class Crew:
    """A number of worker processes; use it with `with`, so that none outlives its launch."""

    order: Mapping[str, Any]
    size: int
    devices: list[str]
    folder: Path
    processes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    logs: list[IO[bytes]] = field(default_factory=list)
    deaths: int = 0

    def __enter__(self) -> Crew:
        self.folder.mkdir(parents=True, exist_ok=True)
        for index in range(self.size):
            self.start(index, reseed=bool(self.order["reseed"]) or index > 0)
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self, index: int, *, reseed: bool) -> None:
        """Start worker `index` in a session of its own: Ctrl-C reaches the launch alone, which ends its workers."""
        log = self.log_file(index).open("ab")
        threads = max(1, available_cores() // self.size)
        environment = os.environ | share(index, threads, self.devices) | {"PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            [sys.executable, "-m", "cnnlab.sweep.worker"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        self.processes[index] = process
        self.logs.append(log)
        assert process.stdin is not None
        text = json.dumps(dict(self.order) | {"threads": threads, "reseed": reseed})
        try:
            process.stdin.write(text.encode())
            process.stdin.close()
        except BrokenPipeError:
            pass  # it died already; tend() will see

    def tend(self, progressed: bool) -> bool:
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


def share(index: int, threads: int, devices: list[str]) -> dict[str, str]:
    """Return the environment that gives worker `index` its CPU threads and, in turn, one of the GPUs."""
    limits = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return limits | ({"CUDA_VISIBLE_DEVICES": devices[index % len(devices)]} if devices else {})


def available_cores() -> int:
    """Return how many CPU cores this process may use: fewer than the machine has under SLURM or taskset."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_devices(accelerator: Any) -> list[str]:
    """Return the names of the GPUs to hand out, as CUDA_VISIBLE_DEVICES takes them; none when training on the CPU."""
    import torch

    if accelerator not in ("auto", "gpu", "cuda") or not torch.cuda.is_available():
        return []
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",") if given else [str(index) for index in range(torch.cuda.device_count())]
