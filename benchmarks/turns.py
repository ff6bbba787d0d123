"""Trainings that stay alive and train an epoch each in turn, so that a noisy machine disturbs all of them alike."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks import GIVEN
from benchmarks.contestants.keras_environment import CannotBeHad, last_line
from benchmarks.gate import CHANNEL, GO, TASK
from benchmarks.machine import ROOT


class Turn:
    """One contestant's process, which trains an epoch when asked; raises CannotBeHad when it ends by itself."""

    def __init__(self, command: Sequence[str], task: Path, threads: int, device: str, folder: Path):
        folder.mkdir()
        self.log = folder / "log.txt"
        ours, theirs = socket.socketpair()
        with self.log.open("w") as log, theirs:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment(task, theirs.fileno(), threads, device),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self.channel = ours.makefile("rw")
        try:
            self.versions = self._answer()
        except BaseException:
            self.close()
            raise

    def epoch(self) -> Mapping[str, float]:
        """Train an epoch; return its seconds and what else was told."""
        self.channel.write(GO + "\n")
        self.channel.flush()
        return self._answer()

    def close(self) -> None:
        """End the process and its workers; nothing of it is kept."""
        self.channel.close()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _answer(self) -> dict:
        with suppress(ConnectionResetError):
            if answer := self.channel.readline():
                return json.loads(answer)
        code = self.process.wait()
        raise CannotBeHad(f"it ended with code {code}: {last_line(self.log.read_text(errors='replace'))}")


def environment(task: Path, channel: int, threads: int, device: str) -> dict[str, str]:
    """Return the user's environment with equal conditions for all contestants."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "src"), *filter(None, [GIVEN.get("PYTHONPATH")])])
    same = {"PYTHONPATH": path, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    same |= {TASK: str(task), CHANNEL: str(channel), "PYTHONUNBUFFERED": "1"}
    if device == "cpu":
        same["CUDA_VISIBLE_DEVICES"] = ""  # where torch finds no driver, each of its optimizer's steps tries again
    kept = {name: value for name, value in GIVEN.items() if name != "MLFLOW_TRACKING_URI"}
    return kept | same
