"""Runs the project's commands as a user does: as processes, in a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from hydra import compose, initialize_config_dir

from cnnlab.data import load
from cnnlab.data.images import ImageData
from cnnlab.job import Job, compose_job
from cnnlab.plan import read_training
from cnnlab.settings.commands import Training
from cnnlab.settings.dataset import Dataset
from cnnlab.settings.read import resolve
from warm import Warm

ROOT = Path(__file__).resolve().parents[1]


def environment(**variables: str) -> dict[str, str]:
    """Return this process' environment without what would change where runs go, on one thread for speed."""
    kept = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return kept | {"OMP_NUM_THREADS": "1", "COLUMNS": "120"} | variables


def command(door: str, *overrides: str) -> list[str]:
    return [sys.executable, str(ROOT / door), *overrides]


def run(
    folder: Path, door: str, *overrides: str, stop: tuple[int, str, float] | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a door such as train.py in `folder` and return what it said, whatever its exit code.

    `stop` is a signal, the pattern of a file in `folder`, and the seconds after it is there at which the signal comes.
    """
    return warm().run([str(ROOT / door), *overrides], folder, environment(**variables), stop)


@cache
def warm() -> Warm:
    """The warm process of this process."""
    return Warm(environment())


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
