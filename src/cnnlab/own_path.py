"""A user's own folder: where Python finds the code that their own configuration names."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def add_to_path(folder: Path | None) -> None:
    """Let Python find what lies in the user's own folder, above it where it is called conf, and in the current folder.

    At the end of the path, so that no file there takes the place of a package.
    """
    above = [folder.resolve().parent] if folder and folder.resolve().name == "conf" else []
    for place in (*([folder.resolve()] if folder else []), *above, Path.cwd()):
        if str(place) not in sys.path:
            sys.path.append(str(place))


def written(folder: Path | None) -> list[str]:
    """Return the arguments that name the folder again, relative to the current one where it lies below."""
    if folder is None:
        return []
    below = folder.resolve().is_relative_to(Path.cwd())
    return [f"--config-dir={os.path.relpath(folder) if below else folder.resolve()}"]
