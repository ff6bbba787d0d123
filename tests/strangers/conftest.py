"""Where the strangers come from: an empty clone, and the wheel in a fresh environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from commands import ROOT
from strangers.walk import Walk
from warm import cold

PARTS = ("src", "conf", "pyproject.toml", "README.md", "LICENSE")


def build_wheel(folder: Path) -> Path:
    """Build the wheel of a copy: setuptools leaves its folders where it builds, and takes what it finds in them."""
    for name in PARTS:
        here = ROOT / name
        if here.is_dir():
            shutil.copytree(here, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(here, folder / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder / "dist")]
    with cold():
        done = subprocess.run([*command, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def environment(tmp_path_factory) -> Iterator[Path]:
    """Return the programs of a fresh environment that has the wheel, from pip, and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("installed")
    (folder / "source").mkdir()
    wheel = build_wheel(folder / "source")
    with cold():
        subprocess.run([sys.executable, "-m", "venv", str(folder / "environment")], check=True)
    pip = [str(folder / "environment" / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-input"]
    lock = str(ROOT / "requirements.lock")
    done = subprocess.run([*pip, "--constraint", lock, f"{wheel}[export]"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    yield folder / "environment" / "bin"
    shutil.rmtree(folder / "environment")  # 6 GB


@pytest.fixture
def outside(environment, tmp_path) -> Walk:
    """Return a walk outside any checkout, with the installed package."""
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    return Walk(tmp_path / "work", tmp_path / "home", str(environment))


@pytest.fixture
def clone(tmp_path) -> Walk:
    """Return a walk in an empty clone whose environment is installed already: `make train` has not to do it again."""
    folder = tmp_path / "cnnlab"
    if (ROOT / ".git").exists():
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    else:
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".venv", "mlruns", "outputs", "data"))
    (folder / ".venv").symlink_to(Path(sys.prefix))
    for name in ("requirements.lock", "pyproject.toml"):
        os.utime(folder / name, (0, 0))  # older than the environment, or make would install it again
    (Path(sys.prefix) / ".installed").touch()
    (tmp_path / "home").mkdir()
    return Walk(folder, tmp_path / "home")
