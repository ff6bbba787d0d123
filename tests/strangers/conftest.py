"""Where the strangers come from: an empty clone, and the wheel in a fresh environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from email import message_from_bytes
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

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


def requirements_of(wheel: Path) -> list[str]:
    """Return what a wheel says that it needs."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(name)).get_all("Requires-Dist")


def needed(requirements: Iterable[str], *extras: str) -> Iterator[Distribution]:
    """Yield what has to be installed for some requirements, from what is installed here; nothing else."""
    waiting, known = [(text, extras) for text in requirements], set()
    while waiting:
        text, wanted = waiting.pop()
        requirement = Requirement(text)
        asked = requirement.name, *sorted(requirement.extras)
        marker = requirement.marker
        if asked in known or (marker and not any(marker.evaluate({"extra": name}) for name in ("", *wanted))):
            continue
        known.add(asked)
        found = distribution(requirement.name)
        waiting += [(other, tuple(requirement.extras)) for other in found.requires or ()]
        yield found


@pytest.fixture(scope="session")
def environment(tmp_path_factory) -> Path:
    """Return the programs of a fresh environment that has the wheel, from pip, and nothing of the checkout.

    What the wheel says that it needs is there already, as links to the locked versions: gigabytes that pip would unpack
    otherwise. It finds them sufficient, or says what is missing.
    """
    folder = tmp_path_factory.mktemp("installed")
    (folder / "source").mkdir()
    wheel = build_wheel(folder / "source")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "environment")], check=True)
    (packages,) = (folder / "environment").glob("lib/python*/site-packages")
    for found in needed(requirements_of(wheel), "export"):
        for name in {file.parts[0] for file in found.files} - {"..", "__pycache__"}:
            if not (packages / name).exists():
                (packages / name).symlink_to(found.locate_file(name))
    python = folder / "environment" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-input", "--no-index"]
    done = subprocess.run([*pip, f"{wheel}[export]"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "environment" / "bin"


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
