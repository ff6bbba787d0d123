"""What was measured on this machine, remembered in the user's cache."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from filelock import FileLock

from cnnlab.kernels.build import cache_home

FILE = "steps.json"


def remembered(key: str) -> tuple[float, float] | None:
    """Return the seconds that were measured under a key; None where nothing was, or nothing can be read."""
    try:
        single, half = json.loads((cache_home() / FILE).read_text())[key]
        return float(single), float(half)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(key: str, seconds: tuple[float, float]) -> None:
    """Keep the seconds that were measured under a key; where nothing can be written they are measured again."""
    folder = cache_home()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{FILE}.lock"):
            try:
                known = json.loads((folder / FILE).read_text())
            except (OSError, ValueError):
                known = {}
            known[key] = list(seconds)
            with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
                json.dump(known, file)
            Path(file.name).replace(folder / FILE)
    except OSError:
        return
