"""A user's own images: a directory of class folders."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cnnlab.data.images import ImageData
from cnnlab.data.pixels import read_image, readable_extensions
from cnnlab.data.split import stratified
from cnnlab.errors import UsageError

FEWEST_PER_CLASS = 3
NAMED = 5

ClassFiles = dict[str, list[Path]]


def load(dataset: Mapping[str, Any]) -> ImageData:
    """Return the images of `dataset.path`, each class folder a class, resized to `image_size` with antialiasing.

    With subfolders train/ and test/, each holding class folders, those are the splits; otherwise `test_fraction` of
    every class, chosen by `test_seed`, is the test split. Classes are sorted by name, images by path.
    Raises UsageError, every problem at once, when the directory does not hold a classification problem.
    """
    height, width, channels = _image_shape(dataset)
    if dataset["path"] is None:
        raise UsageError("dataset.path=null: set dataset.path to a directory that holds one folder of images per class")
    path = Path(dataset["path"]).expanduser()
    if not path.is_dir():
        raise UsageError(f"dataset.path={path} is not a directory; expected one folder of images per class in it")
    own_test = (path / "train").is_dir() and (path / "test").is_dir()
    parts = [_class_files(path / part) for part in (("train", "test") if own_test else (".",))]
    problems = [problem for part in parts for problem in _class_problems(path, part)]
    if own_test:
        problems += _difference(path, *parts)
        problems += _too_few(path, parts[0], 1, "train/")
        problems += _too_few(path, parts[1], 1, "test/")
    else:
        problems += _too_few(path, parts[0], FEWEST_PER_CLASS, "to be divided into train, validation and test")
    read = [_read(part, channels, (height, width)) for part in parts]
    problems += _unreadable(path, [failure for _, _, failures in read for failure in failures])
    if problems:
        raise UsageError(*problems)
    images, labels, _ = read[0]
    if own_test:
        train_images, train_labels, (test_images, test_labels, _) = images, labels, read[1]
    else:
        train, test = stratified(labels, dataset["test_fraction"], dataset["test_seed"], "dataset.test_fraction")
        train_images, train_labels = images[train], labels[train]
        test_images, test_labels = images[test], labels[test]
    return ImageData(
        name=dataset["name"],
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        class_names=tuple(parts[0]),
        source=os.fspath(path.resolve()),
    )


def _image_shape(dataset: Mapping[str, Any]) -> tuple[int, int, int]:
    size, channels, fraction, seed = (dataset[key] for key in ("image_size", "channels", "test_fraction", "test_seed"))
    problems = []
    sides = list(size) if isinstance(size, (list, tuple)) else [size, size]
    if len(sides) != 2 or any(not isinstance(side, int) or isinstance(side, bool) or side < 1 for side in sides):
        problems.append(f"dataset.image_size={size!r} must be a whole number of pixels above 0, or [height, width]")
    if channels not in (1, 3):
        problems.append(f"dataset.channels={channels!r} must be 1 (grey) or 3 (colour)")
    if not isinstance(fraction, float) or not 0 < fraction < 1:
        problems.append(f"dataset.test_fraction={fraction!r} must be a number above 0 and below 1")
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        problems.append(f"dataset.test_seed={seed!r} must be a whole number from 0 to {2**32 - 1}")
    if problems:
        raise UsageError(*problems)
    return sides[0], sides[1], channels


def _class_files(root: Path) -> ClassFiles:
    """Return the images under each class folder of `root`, sorted; a name that starts with a dot is hidden."""
    extensions = readable_extensions()
    classes: ClassFiles = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        # File systems differ in how they store an accented letter; the class is the same.
        files = classes.setdefault(unicodedata.normalize("NFC", folder.name), [])
        for path in sorted(folder.rglob("*")):
            hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
            if not hidden and path.suffix.lower() in extensions and path.is_file():
                files.append(path)
    return dict(sorted(classes.items()))


def _class_problems(path: Path, classes: ClassFiles) -> list[str]:
    if not any(classes.values()):
        return [f"dataset.path={path} holds no images; expected one folder of images per class in it"]
    if len(classes) < 2:
        return [f"dataset.path={path} holds one class, '{next(iter(classes))}'; expected at least 2 class folders"]
    return []


def _difference(path: Path, train: ClassFiles, test: ClassFiles) -> list[str]:
    return [
        f"dataset.path={path}: {_names(sorted(only))} in {here}/ but not in {there}/; both need the same class folders"
        for only, here, there in (
            (train.keys() - test.keys(), "train", "test"),
            (test.keys() - train.keys(), "test", "train"),
        )
        if only
    ]


def _too_few(path: Path, classes: ClassFiles, fewest: int, purpose: str) -> list[str]:
    small = [f"'{name}' ({len(files)})" for name, files in classes.items() if len(files) < fewest]
    if not small or not any(classes.values()):
        return []
    return [f"dataset.path={path}: {_names(small)} with too few images; every class needs {fewest} {purpose}"]


def _unreadable(path: Path, failures: list[tuple[Path, str]]) -> list[str]:
    if not failures:
        return []
    named = _names([f"{file.relative_to(path)} ({reason})" for file, reason in failures])
    return [f"dataset.path={path}: {len(failures)} unreadable image{'s'[: len(failures) > 1]}: {named}"]


def _names(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _read(classes: ClassFiles, channels: int, size: tuple[int, int]) -> tuple[Tensor, Tensor, list[tuple[Path, str]]]:
    files = [(path, label) for label, paths in enumerate(classes.values()) for path in paths]
    images = torch.empty(len(files), channels, *size, dtype=torch.uint8)

    def decode(position: int) -> str | None:
        # A damaged file can raise almost anything in a decoder, and each is the file's fault.
        try:
            images[position] = read_image(files[position][0], channels, size)
        except Exception as error:
            return " ".join(str(error).split()) or type(error).__name__
        return None

    # Pillow decodes and resizes outside the interpreter lock.
    with ThreadPoolExecutor() as pool:
        reasons = list(pool.map(decode, range(len(files))))
    failures = [(files[position][0], reason) for position, reason in enumerate(reasons) if reason is not None]
    return images, torch.tensor([label for _, label in files], dtype=torch.int64), failures
