"""Runs the project's commands as a user does: as processes, in a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hydra import compose, initialize_config_dir

from cnnlab.data import load
from cnnlab.data.images import ImageData
from cnnlab.job import Job, compose_job
from cnnlab.plan import read_training
from cnnlab.settings.commands import Training
from cnnlab.settings.dataset import Dataset
from cnnlab.settings.read import resolve
from warm import environment

ROOT = Path(__file__).resolve().parents[1]
LONGEST = 300  # seconds a command may take before it is killed


def command(door: str, *overrides: str) -> list[str]:
    return [sys.executable, str(ROOT / door), *overrides]


def run(
    folder: Path, door: str, *overrides: str, stop: tuple[int, str, float] | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a door such as train.py in `folder` and return what it said, whatever its exit code.

    `stop` is a signal, the pattern of a file in `folder`, and the seconds after it is there at which the signal comes.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command(door, *overrides),
            cwd=folder,
            env=environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
        )
        try:
            if stop is not None:
                send(process, folder, *stop)
            process.wait(LONGEST)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        said = []
        for file in (output, errors):
            file.seek(0)
            said.append(file.read().decode())
    return subprocess.CompletedProcess(process.args, process.returncode, *said)


def send(process: subprocess.Popen[bytes], folder: Path, number: int, pattern: str, seconds: float) -> None:
    """Send a process a signal some seconds after a file is there, unless it has ended by then."""
    while not any(folder.glob(pattern)) and process.poll() is None:
        time.sleep(0.002)
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    if process.returncode is None:
        os.kill(process.pid, number)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[str], object]]:
    """Let `folder` be a disk of `size`, as `mount` writes it; yield the function that resizes it. Needs root."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield lambda size: subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def composed(*overrides: str, config_name: str = "train") -> dict:
    """Return the resolved configuration of a command line."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return resolve(compose(config_name, list(overrides)))


def job(door: str, folder: Path, *overrides: str) -> Job:
    """Return what a command line asks of a command, with `folder` for its pictures and checkpoints."""
    return compose_job(door, overrides, folder=folder)


def settings(*overrides: str) -> Training:
    """Return the checked settings of a command line of train.py."""
    return read_training(composed(*overrides))


def dataset(name: str, **changes: object) -> Dataset:
    """Return the section of a dataset, with changed values."""
    return settings(f"dataset={name}").dataset.model_copy(update=changes)


def loaded(name: str, **changes: object) -> ImageData:
    """Return the images of a dataset, its section with changed values."""
    return load(dataset(name, **changes))
