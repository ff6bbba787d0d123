"""A user's own images: a directory of class folders."""

from __future__ import annotations

import os
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from cnnlab.data.images import ImageData
from cnnlab.data.pixels import read_image, readable_extensions
from cnnlab.data.split import stratified
from cnnlab.errors import UsageError, one_line
from cnnlab.settings.dataset import ImageFolder

FEWEST_PER_CLASS = 3
NAMED = 5

ClassFiles = dict[str, list[Path]]


def load(dataset: ImageFolder) -> ImageData:
    """Return the images of `dataset.path`, each class folder a class, resized to `image_size` with antialiasing.

    With subfolders train/ and test/, each holding class folders, those are the splits; otherwise `test_fraction` of
    every class, chosen by `test_seed`, is the test split. Classes are sorted by name, images by path.
    Raises UsageError, every problem at once, when the directory does not hold a classification problem.
    """
    if dataset.path is None:
        raise UsageError("dataset.path=null: set dataset.path to a directory that holds one folder of images per class")
    path = Path(dataset.path).expanduser()
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
    read = [_read(part, dataset.channels, dataset.size) for part in parts]
    problems += _unreadable(path, [failure for _, _, failures in read for failure in failures])
    if problems:
        raise UsageError(*problems)
    images, labels, _ = read[0]
    if own_test:
        train_images, train_labels, (test_images, test_labels, _) = images, labels, read[1]
    else:
        train, test = stratified(labels, dataset.test_fraction, dataset.test_seed, "dataset.test_fraction")
        train_images, train_labels = images[train], labels[train]
        test_images, test_labels = images[test], labels[test]
    return ImageData(
        name=dataset.name,
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        class_names=tuple(parts[0]),
        source=os.fspath(path.resolve()),
    )


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
            return one_line(error)
        return None

    # Pillow decodes and resizes outside the interpreter lock.
    with ThreadPoolExecutor() as pool:
        reasons = list(pool.map(decode, range(len(files))))
    failures = [(files[position][0], reason) for position, reason in enumerate(reasons) if reason is not None]
    return images, torch.tensor([label for _, label in files], dtype=torch.int64), failures
