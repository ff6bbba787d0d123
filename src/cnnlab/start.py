"""What a door does before it imports anything: finds the Python that has the packages, or says how to get them."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv" / "bin" / "python"


def need_packages() -> None:
    """Run the command with the checkout's `.venv` where this Python lacks the packages; say it where there is none."""
    if importlib.util.find_spec("hydra") is None:
        _with_packages()


def _with_packages() -> NoReturn:
    if PYTHON.exists() and Path(sys.prefix).resolve() != PYTHON.parents[1].resolve():
        os.execv(PYTHON, [str(PYTHON), *sys.argv])
    print(
        f"error: {sys.executable} has not cnnlab's packages; `make train` installs them into .venv once, "
        "and `.venv/bin/python` has them then",
        file=sys.stderr,
    )
    sys.exit(2)
