"""Folders that cannot be written: one line before anything begins, and nothing half-written."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from commands import run

QUICK = ("model=dnn", "trainer.max_epochs=1", "figures.enabled=false", "tracking.log_model=false")
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a read-only folder needs root")


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let `folder` be one that nobody can write to, not even root."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@NEEDS_ROOT
@pytest.mark.parametrize(("name", "said"), [("outputs", "hydra.run.dir: "), ("mlruns", "tracking.uri=")])
def test_a_read_only_folder_is_one_line_before_the_training_begins(tmp_path, name, said):
    (tmp_path / name).mkdir()
    with read_only(tmp_path / name):
        done = run(tmp_path, "train.py", *QUICK)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"error: {said}") and name in line
        assert [item.name for item in tmp_path.iterdir()] == [name]


@NEEDS_ROOT
def test_a_read_only_folder_that_was_named_is_one_line(tmp_path):
    (tmp_path / "there").mkdir()
    with read_only(tmp_path / "there"):
        done = run(tmp_path, "train.py", *QUICK, "hydra.run.dir=there")
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert line == f"error: hydra.run.dir: {tmp_path}/there cannot be written; choose another folder"
        assert [item.name for item in tmp_path.iterdir()] == ["there"]
