"""The doors of a checkout: `python train.py`, `python sweep.py` and the others."""

from __future__ import annotations

import os
from typing import NoReturn

from cnnlab.start import STYLE, need_packages


def open_door(command: str) -> NoReturn:
    """Be the command (train, sweep, ...), with the Python that has the packages."""
    need_packages()
    os.environ.setdefault(STYLE, "checkout")
    from cnnlab.cli import enter  # imports Hydra

    enter(command)
