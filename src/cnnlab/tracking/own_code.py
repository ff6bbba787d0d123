"""The user's own code and configuration that a run used, as files to keep with it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from cnnlab.start import PACKAGE
from cnnlab.tracking.run import TrackedRun

LARGEST_FILE = 1_000_000  # bytes
LARGEST_ALL = 10_000_000
INSTALLED = ("site-packages", "dist-packages")


def targets(values: object) -> Iterator[str]:
    """Yield every `_target_` in plain values, however deep."""
    if isinstance(values, Mapping):
        if isinstance(target := values.get("_target_"), str):
            yield target
        for value in values.values():
            yield from targets(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from targets(value)


def keep_own_code(run: TrackedRun, settings: object, own_folder: Path | None) -> list[str]:
    """Keep the user's own code and configuration with a run under code/; return what is too large to be kept."""
    files = own_files(settings, own_folder)
    with TemporaryDirectory() as folder:
        left_out = copy_files(files, Path(folder))
        if len(left_out) < len(files):
            run.log_folder(Path(folder), "code")
    return left_out


def own_files(settings: object, own_folder: Path | None) -> dict[str, Path]:
    """Return the files to keep by the name they are kept under.

    Those are the modules that the `_target_`s of the settings come from and all others loaded from the same folder,
    unless they are installed packages, and the YAML files of the user's own folder of configuration.
    """
    roots = {root for target in targets(settings) if (root := _root(target)) is not None}
    files: dict[str, Path] = {}
    for name, module in sorted(sys.modules.items()) if roots else ():
        file = getattr(module, "__file__", None)
        path = Path(file).resolve() if isinstance(file, str) else None
        if path is None or name == "__main__" or path.suffix != ".py" or not path.is_file():
            continue
        for root in roots:
            if path.is_relative_to(root) and _is_own(path):
                files[path.relative_to(root).as_posix()] = path
    if own_folder is not None:
        folder = own_folder.resolve()
        for path in sorted(folder.rglob("*.yaml")):
            files[f"{folder.name}/{path.relative_to(folder).as_posix()}"] = path
    return files


def copy_files(files: Mapping[str, Path], folder: Path) -> list[str]:
    """Copy the files into a folder, each under its name; return the names of those that are too large to be kept."""
    left_out, total = [], 0
    for name, path in files.items():
        size = path.stat().st_size
        if size > LARGEST_FILE or total + size > LARGEST_ALL:
            left_out.append(name)
            continue
        total += size
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return left_out


def _root(target: str) -> Path | None:
    """Return the folder that Python found the first part of an import path in, where that is the user's own code."""
    module = sys.modules.get(target.partition(".")[0])
    places: Iterable[str | None] = [getattr(module, "__file__", None), *getattr(module, "__path__", [])]
    for place in places:
        if place is None:
            continue
        path = Path(place).resolve()
        root = path.parent.parent if path.name == "__init__.py" else path.parent
        return root if _is_own(path) else None
    return None


def _is_own(path: Path) -> bool:
    libraries = [Path(place).resolve() / "lib" for place in {sys.prefix, sys.base_prefix}]
    inside = any(path.is_relative_to(place) for place in (PACKAGE, *libraries))
    return not inside and not set(INSTALLED) & set(path.parts)
