"""Images that a user's own function or class returns."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cnnlab.data.images import ImageData
from cnnlab.data.survey import describe_copies
from cnnlab.errors import UsageError, collect, one_line
from cnnlab.own import asked, called, own
from cnnlab.settings.dataset import OwnImages

Array = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
MOST_CHANNELS = 4  # of an array, whose channels come last


@dataclass(frozen=True, eq=False)
class Part:
    """One split: uint8 [N, C, H, W], int64 [N]."""

    images: Tensor
    labels: Tensor


def load(dataset: OwnImages) -> ImageData:
    """Return what the target of the section returns: `(train, test)` or `(train, test, class_names)`.

    A split is a dataset of torch's, with a length and (image, label) by index, or a pair (images, labels) of arrays.
    An image is uint8: a PIL image, an array [H, W] or [H, W, C], or a tensor [H, W] or [C, H, W]. A label is a whole
    number from 0; `class_names` are their names, else those in `train.classes`, else the numbers. The target is given
    `root`, `download` and `sealed` if it asks for them; where the dataset is sealed, nothing of `test` is looked at.
    Raises UsageError, every problem at once, for anything else.
    """
    where = f"dataset._target_={dataset.target!r}"
    make = own("dataset", dataset)
    offers = {"root": dataset.root, "download": dataset.download, "sealed": dataset.sealed}
    returned = called("dataset", make, **asked(make, **offers))
    if not isinstance(returned, tuple | list) or len(returned) not in (2, 3):
        raise UsageError(f"{where} returns {_kind(returned)}; it takes (train, test) or (train, test, class_names)")
    problems: list[str] = []
    train = collect(problems, read_part, f"{where}, train", returned[0])
    if dataset.sealed:
        test = None if train is None else Part(train.images[:0], train.labels[:0])
    else:
        test = collect(problems, read_part, f"{where}, test", returned[1])
    if train is None or test is None:
        raise UsageError(*problems)
    given = returned[2] if len(returned) == 3 else getattr(returned[0], "classes", None)
    names = _names(where, given, train.labels)
    problems += _disagreements(where, train, test, len(names))
    if problems:
        raise UsageError(*problems)
    train_keys, test_keys = content_keys(train.images), content_keys(test.images)
    return ImageData(
        name=dataset.name,
        train_images=train.images,
        train_labels=train.labels,
        test_images=test.images,
        test_labels=test.labels,
        class_names=names,
        source=dataset.target,
        layout="\n".join(copies({"train": (train, train_keys), "test": (test, test_keys)}, names)),
        train_keys=train_keys,
        test_keys=test_keys,
        sealed=dataset.sealed,
    )


def read_part(where: str, part: object) -> Part:
    """Return one split as tensors; raises UsageError with the first image or label that is none."""
    if isinstance(part, tuple | list) and len(part) == 2 and isinstance(part[0], np.ndarray | Tensor):
        images = _stacked(where, part[0])
        labels = _labels(where, part[1])
        if len(images) != len(labels):
            raise UsageError(f"{where}: {len(images)} images, but {len(labels)} labels")
    else:
        images, labels = _items(where, part)
    if not len(labels):
        raise UsageError(f"{where}: it holds no images")
    return Part(images.contiguous(), labels)


def _items(where: str, part: object) -> tuple[Tensor, Tensor]:
    if not hasattr(part, "__getitem__") or not hasattr(part, "__len__"):
        raise UsageError(
            f"{where} is {_kind(part)}; it takes a dataset with a length and (image, label) by index, or a pair of "
            "arrays (images, labels)"
        )
    images, labels = [], []
    for place in range(len(part)):
        try:
            item = part[place]
        except Exception as error:
            raise UsageError(f"{where}, item {place}: {one_line(error)}") from error
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise UsageError(f"{where}, item {place} is {_kind(item)}; it takes (image, label)")
        images.append(_image(f"{where}, item {place}", item[0]))
        labels.append(item[1])
        if images[-1].shape != images[0].shape:
            shapes = f"{list(images[-1].shape)}, the first one {list(images[0].shape)}"
            raise UsageError(f"{where}, item {place}: its image has the shape {shapes}; all need the same")
    return torch.stack(images) if images else torch.empty(0, 1, 1, 1, dtype=torch.uint8), _labels(where, labels)


def _image(where: str, image: object) -> Tensor:
    """Return one image as uint8 [C, H, W]."""
    if isinstance(image, Image.Image):
        image = np.array(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    if not isinstance(image, np.ndarray | Tensor):
        raise UsageError(f"{where}: its image is {_kind(image)}; it takes a PIL image, an array or a tensor")
    return _stacked(where, image[None])[0]


def _stacked(where: str, images: Array | Tensor) -> Tensor:
    """Return images as uint8 [N, C, H, W]: arrays have their channels last, tensors before height and width."""
    if str(images.dtype).removeprefix("torch.") != "uint8":
        raise UsageError(
            f"{where}: its pixels are {images.dtype}; it takes uint8 from 0 to 255, which dataset.scaling scales"
        )
    if images.ndim not in (3, 4):
        raise UsageError(f"{where}: an image has the shape {list(images.shape[1:])}; it takes two or three dimensions")
    if isinstance(images, Tensor):
        return images if images.ndim == 4 else images[:, None]
    if images.ndim == 3:
        return torch.from_numpy(np.ascontiguousarray(images))[:, None]
    if images.shape[3] > MOST_CHANNELS:
        raise UsageError(
            f"{where}: an image has the shape {list(images.shape[1:])}; an array is [height, width, channels], with "
            f"at most {MOST_CHANNELS} channels; a tensor is [channels, height, width]"
        )
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def _labels(where: str, labels: object) -> Tensor:
    try:
        found = np.asarray(labels).reshape(-1)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{where}: its labels cannot be read: {one_line(error)}") from error
    if len(found) and not np.issubdtype(found.dtype, np.integer):
        raise UsageError(f"{where}: its labels are {found.dtype}, such as {found[0]!r}; they are whole numbers from 0")
    return torch.from_numpy(found.astype(np.int64))


def _names(where: str, given: object, labels: Tensor) -> tuple[str, ...]:
    if given is None:
        return tuple(str(label) for label in range(int(labels.max()) + 1))
    if isinstance(given, str) or not isinstance(given, Sequence) or not all(isinstance(name, str) for name in given):
        raise UsageError(f"{where}: its class names are {given!r}; they are a list of texts")
    if twice := [name for name, count in Counter(given).items() if count > 1]:
        raise UsageError(f"{where}: its class names hold {twice[0]!r} twice; every class needs a name of its own")
    return tuple(given)


def _disagreements(where: str, train: Part, test: Part, classes: int) -> list[str]:
    problems = []
    if train.images.shape[1:] != test.images.shape[1:]:
        shapes = f"{list(train.images.shape[1:])} in train and {list(test.images.shape[1:])} in test"
        problems.append(f"{where}: images are {shapes}; all need the same shape")
    if classes < 2:
        problems.append(f"{where}: there are {classes} classes; at least 2 are needed")
    for split, part in (("train", train), ("test", test)):
        outside = part.labels[(part.labels < 0) | (part.labels >= classes)]
        if len(outside):
            problems.append(f"{where}, {split}: label {int(outside[0])}; allowed: 0 to {classes - 1}, as many as names")
    if missing := sorted(set(range(classes)) - set(train.labels.tolist())):
        problems.append(f"{where}, train: no image of class {missing[0]}, one of {classes}")
    return problems


def copies(splits: Mapping[str, tuple[Part, Sequence[str]]], names: Sequence[str]) -> list[str]:
    """Return a line for the images that lie in several splits, and one for those in several classes, by their keys."""
    by_split: dict[str, dict[str, str]] = defaultdict(dict)
    by_class: dict[str, dict[str, str]] = defaultdict(dict)
    for split, (part, keys) in splits.items():
        for item, (key, label) in enumerate(zip(keys, part.labels.tolist(), strict=True)):
            by_split[key].setdefault(split, f"{split}, item {item}")
            by_class[key].setdefault(names[label], f"{split}, item {item} ({names[label]})")
    found = {"split": by_split, "class": by_class}
    return [
        line
        for what, places in found.items()
        for line in describe_copies({key: list(items.values()) for key, items in places.items()}, what)
    ]


def content_keys(images: Tensor) -> tuple[str, ...]:
    """Return 16 hexadecimal digits of each image's pixels, uint8 [N, C, H, W]: its name wherever it stands."""
    rows = images.flatten(1).numpy()
    return tuple(hashlib.blake2b(row.tobytes(), digest_size=8).hexdigest() for row in rows)


def _kind(value: object) -> str:
    return f"{type(value).__name__} of length {len(value)}" if isinstance(value, tuple | list) else type(value).__name__
