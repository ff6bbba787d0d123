"""A user's own images: a directory of class folders."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from cnnlab.data.files import ClassFiles, Failures, joined, read_files, told_apart
from cnnlab.data.images import ImageData
from cnnlab.data.split import by_content
from cnnlab.data.stored import MEBIBYTE, describe_map, map_files
from cnnlab.data.survey import describe_copies, describe_form, form_of
from cnnlab.decoding import Form, readable_extensions
from cnnlab.errors import UsageError, is_text, printable
from cnnlab.settings.dataset import ImageFolder

TRAIN, VALIDATION, TEST = "train", "val", "test"
SPLITS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval"), VALIDATION),
    **dict.fromkeys(("test", "tests", "testing"), TEST),
}
NAMED = 5


def load(dataset: ImageFolder) -> ImageData:
    """Return the images of `dataset.path`, each class folder a class, resized to `image_size`.

    Subfolders train/, val/ and test/, or as SPLITS has it, each holding class folders, are the splits. Without test/,
    about `test_fraction` of the rest is the test split: an image's content and `test_seed` decide. Classes are
    sorted by name, images by path. Of a sealed dataset the folder test/ is not entered; without one, no image of the
    test split is read, but for the digest that tells it. Raises UsageError, every problem at once, when the directory
    does not hold a classification problem.
    """
    if dataset.path is None:
        raise UsageError("dataset.path=null: set dataset.path to a directory that holds one folder of images per class")
    path = Path(dataset.path).expanduser()
    if not path.is_dir():
        raise UsageError(f"dataset.path={path} is not a directory; expected one folder of images per class in it")
    folders = find_splits(path)
    opened = {split: folder for split, folder in folders.items() if split != TEST or not dataset.sealed}
    parts = {split: _class_files(folder) for split, folder in opened.items()}
    if unwritable := _unwritable_names(path, parts):
        raise UsageError(*unwritable)
    problems = [problem for part in parts.values() for problem in _class_problems(path, part)]
    for split, part in parts.items():
        if split != TRAIN:
            problems += _difference(path, parts[TRAIN], part, *(folders[name].name for name in (TRAIN, split)))
            problems += _too_few(path, part, 1, f"in {folders[split].name}/")
    divided = [name for name in (VALIDATION, TEST) if name not in folders]
    purpose = "to be divided into train" + "".join(f" and {name}" for name in divided)
    problems += _too_few(path, parts[TRAIN], 1 + len(divided), purpose)
    splits = found = {split: told_apart(part) for split, part in parts.items()}
    if TEST not in folders and not problems and all(found[TRAIN].keys):
        train, key = found[TRAIN], "dataset.test_fraction"
        stay, leave = by_content(train.keys, train.labels, dataset.test_fraction, dataset.test_seed, key)
        splits = found | {TRAIN: train.take(stay), TEST: train.take(leave)}
    test_keys = splits[TEST].keys if TEST in splits else ()
    if dataset.sealed:
        splits = {split: files for split, files in splits.items() if split != TEST}
    # The test split says nothing about how the others are read: sealed or not, they are read alike.
    training = joined([files for split, files in splits.items() if split != TEST])
    channels, size = form_of(dataset, training.paths)
    form = Form(channels, size, dataset.resize, dataset.max_pixels)
    images = channels * size[0] * size[1] * sum(len(files.paths) for files in splits.values())
    mapped = images > dataset.memory_limit * MEBIBYTE
    if mapped and problems:  # no file of images is made that none will read
        raise UsageError(*problems)
    train_images, failures = map_files(training, form, dataset) if mapped else read_files(training, form)
    test_images = train_images[:0]
    if TEST in splits:
        test_images, more = map_files(splits[TEST], form, dataset) if mapped else read_files(splits[TEST], form)
        failures = [*failures, *more]
    problems += _unreadable(path, failures)
    if problems:
        raise UsageError(*problems)
    layout = [describe_splits(folders, path, dataset), describe_form(dataset, channels, size)]
    if mapped:
        layout.append(describe_map(images, dataset))
    return ImageData(
        name=dataset.name,
        train_images=train_images,
        train_labels=training.labels,
        test_images=test_images,
        test_labels=splits[TEST].labels if TEST in splits else training.labels[:0],
        class_names=tuple(parts[TRAIN]),
        source=os.fspath(path.resolve()),
        own_validation=len(splits[VALIDATION].labels) if VALIDATION in splits else 0,
        layout="\n".join([*layout, *copies(parts, {split: files.keys for split, files in found.items()}, path)]),
        train_keys=training.keys,
        test_keys=test_keys,
        sealed=dataset.sealed,
        mapped=mapped,
    )


def find_splits(path: Path) -> dict[str, Path]:
    """Return the folders of train, val and test as far as they are there; the whole folder as train where none is.

    Raises UsageError where splits and classes lie side by side, a split is there twice or without train/, or what lies
    there looks like splits under names of their own.
    """
    found: dict[str, list[Path]] = {}
    classes = []
    for folder in _folders(path):
        split = SPLITS.get(folder.name.lower())
        found.setdefault(split, []).append(folder) if split else classes.append(folder.name)
    if not found:
        if inside := _shared_folders([path / name for name in classes]):
            raise UsageError(
                f"dataset.path={path}: {_names([f'{name}/' for name in classes])} hold no images but the same folders, "
                f"{_names([f'{name}/' for name in inside])}: if they are splits, name them train/ and test/; if they "
                "are classes, put them into train/"
            )
        return {TRAIN: path}
    problems = [
        f"dataset.path={path} holds {_names([f'{folder.name}/' for folder in folders])} for one split; keep one of them"
        for folders in found.values()
        if len(folders) > 1
    ]
    named = _names([f"{folder.name}/" for folders in found.values() for folder in folders])
    if classes:
        problems.append(
            f"dataset.path={path} holds {named} beside {_names([f'{name}/' for name in classes])}: no class may be "
            "called like a split; put all classes into train/, or rename the folder"
        )
    elif TRAIN not in found:
        problems.append(f"dataset.path={path} holds {named} without train/")
    if problems:
        raise UsageError(*problems)
    return {split: found[split][0] for split in (TRAIN, VALIDATION, TEST) if split in found}


def _folders(path: Path) -> list[Path]:
    return sorted(item for item in path.iterdir() if item.is_dir() and not item.name.startswith("."))


def _shared_folders(folders: list[Path]) -> list[str]:
    """Return the names of at least two folders that lie in each of `folders` and nothing else, not even an image."""
    names = [[item.name for item in _folders(folder)] for folder in folders]
    if len(folders) < 2 or len(names[0]) < 2 or any(other != names[0] for other in names):
        return []
    extensions = readable_extensions()
    images = any(item.suffix.lower() in extensions for folder in folders for item in folder.iterdir())
    return [] if images else names[0]


def describe_splits(folders: dict[str, Path], path: Path, dataset: ImageFolder) -> str:
    """Return in words where each split comes from."""
    whole = "all class folders" if folders[TRAIN] == path else f"{folders[TRAIN].name}/"
    origins = {TRAIN: whole, VALIDATION: describe_validation(dataset)}
    origins[TEST] = f"{dataset.test_fraction:.3g} of {whole}"
    origins |= {split: f"{folder.name}/" for split, folder in folders.items() if split != TRAIN}
    if dataset.sealed:
        origins[TEST] += " (sealed)"
    return "splits: " + ", ".join(f"{split} from {origin}" for split, origin in origins.items())


def describe_validation(dataset: ImageFolder) -> str:
    """Return in words what is held out of the training images."""
    validation = dataset.validation
    if validation.method == "fold":
        return f"fold {validation.fold} of {validation.folds} of the training images"
    return f"{validation.fraction:.3g} of the training images"


def copies(parts: dict[str, ClassFiles], keys: dict[str, tuple[str, ...]], path: Path) -> list[str]:
    """Return a line for the images that lie in several splits, and one for those in several classes."""
    by_split: dict[str, dict[str, str]] = defaultdict(dict)
    by_class: dict[str, dict[str, str]] = defaultdict(dict)
    for split, part in parts.items():
        files = [(name, str(file.relative_to(path))) for name, files in part.items() for file in files]
        for key, (name, file) in zip(keys[split], files, strict=True):
            by_split[key].setdefault(split, file)
            by_class[key].setdefault(name, file)
    found = {"split": by_split, "class": by_class}
    return [
        line
        for what, places in found.items()
        for line in describe_copies({key: list(files.values()) for key, files in places.items()}, what)
    ]


def _class_files(root: Path) -> ClassFiles:
    """Return the images under each class folder of `root`, sorted; a name that starts with a dot is hidden."""
    extensions = readable_extensions()
    classes: ClassFiles = {}
    for folder in _folders(root):
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


def _unwritable_names(path: Path, parts: Mapping[str, ClassFiles]) -> list[str]:
    """Return a line for names that are no text: no table, figure or checkpoint could hold them."""
    files = [file for part in parts.values() for files in part.values() for file in files]
    classes = [Path(name) for part in parts.values() for name in part]
    odd = [str(file.relative_to(path)) for file in files if not is_text(str(file.relative_to(path)))]
    if not odd and all(is_text(name.name) for name in classes):
        return []
    named = _names([printable(name) for name in odd or [name.name for name in classes if not is_text(name.name)]])
    return [f"dataset.path={path}: names that are no UTF-8: {named}; rename these files and folders"]


def _difference(path: Path, train: ClassFiles, other: ClassFiles, first: str, second: str) -> list[str]:
    return [
        f"dataset.path={path}: {_names(sorted(only))} in {here}/ but not in {there}/; both need the same class folders"
        for only, here, there in (
            (train.keys() - other.keys(), first, second),
            (other.keys() - train.keys(), second, first),
        )
        if only
    ]


def _too_few(path: Path, classes: ClassFiles, fewest: int, purpose: str) -> list[str]:
    small = [f"'{name}' ({len(files)})" for name, files in classes.items() if len(files) < fewest]
    if not small or not any(classes.values()):
        return []
    return [f"dataset.path={path}: {_names(small)} with too few images; every class needs {fewest} {purpose}"]


def _unreadable(path: Path, failures: Failures) -> list[str]:
    if not failures:
        return []
    named = _names([f"{file.relative_to(path)} ({reason})" for file, reason in failures])
    return [f"dataset.path={path}: {len(failures)} unreadable image{'s'[: len(failures) > 1]}: {named}"]


def _names(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
