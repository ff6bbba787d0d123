"""What a command does before it imports anything: finds the Python that has the packages, or says how to get them.

Also where this package was started from, which decides what a user types: `python train.py` and `make ui` in a
checkout, `cnnlab train` and `cnnlab ui` where the package is installed.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import NoReturn

PACKAGE = Path(__file__).resolve().parent
_root = PACKAGE.parents[1]
CHECKOUT = _root if PACKAGE.parent.name == "src" and (_root / "conf" / "train.yaml").is_file() else None
CONF = CHECKOUT / "conf" if CHECKOUT else PACKAGE / "conf"  # the wheel holds the same files
PYTHON = _root / ".venv" / "bin" / "python"
MAKE_TARGETS = ("ui", "report", "doctor")
MODULES = {"sync": "cnnlab.tracking.sync"}  # what delivers belongs to the folder it is typed in, as `make` does not
STYLE = "CNNLAB_COMMANDS"  # how the commands are typed: inherited by workers and by the other processes of a training


def need_packages() -> None:
    """Run the command with the checkout's `.venv` where this Python lacks the packages; say it where there is none."""
    if importlib.util.find_spec("hydra") is None:
        _with_packages()


def own_folder() -> Path | None:
    """Return the folder `conf/` of the current folder, a user's own configuration, unless it is cnnlab's."""
    own = Path("conf").absolute()
    return own if own.is_dir() and own.resolve() != CONF.resolve() else None


def typed(command: str) -> str:
    """Return what a user types for a command here."""
    if os.environ.get(STYLE, "checkout" if CHECKOUT else "package") == "package":
        return f"cnnlab {command}"
    if command in MODULES:
        return f"python -m {MODULES[command]}"
    return f"make {command}" if command in MAKE_TARGETS else f"python {command}.py"


def importing() -> dict[str, str]:
    """Return the environment in which another process imports the same code as this one.

    Also where that is a checkout and another version is installed.
    """
    path = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(path)}


def _with_packages() -> NoReturn:
    if PYTHON.exists() and Path(sys.prefix).resolve() != PYTHON.parents[1].resolve():
        os.execv(PYTHON, [str(PYTHON), *sys.argv])
    print(
        f"error: {sys.executable} has not cnnlab's packages; `make train` installs them into .venv once, "
        "and `.venv/bin/python` has them then",
        file=sys.stderr,
    )
    sys.exit(2)
