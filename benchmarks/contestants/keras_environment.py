"""An environment of its own for Keras and TensorFlow, made once and kept in the user's cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

REQUIREMENTS = ("keras==3.15.1", "tensorflow-cpu==2.21.0")


class CannotBeHad(Exception):
    """Why a contestant cannot take part."""


@cache
def keras_python() -> str:
    """Return the Python that has Keras, after making its environment (about 1.6 GB) where there is none.

    Raises CannotBeHad where the packages cannot be installed.
    """
    cache_folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache_folder / "cnnlab" / "benchmarks" / "-".join(REQUIREMENTS).replace("==", "-")
    python, stamp = folder / "bin" / "python", folder / "installed"
    if stamp.exists():
        return str(python)
    print(f"making an environment for Keras in {folder}: some minutes and 1.6 GB, once", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    pip = ["pip", "--python", str(folder), "install", "--disable-pip-version-check", "--no-input", "--quiet"]
    for command in (["venv", "--without-pip", str(folder)], [*pip, *REQUIREMENTS]):
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
        if done.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            raise CannotBeHad(f"{' '.join(REQUIREMENTS)} could not be installed ({last_line(done.stderr)})")
    stamp.touch()
    return str(python)


def last_line(text: str) -> str:
    """Return the last line that is not empty."""
    return ([line.strip() for line in text.splitlines() if line.strip()] or ["it said nothing"])[-1]
