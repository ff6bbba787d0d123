"""How the training images are divided into training and validation."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cnnlab.data import drawn
from cnnlab.data.images import ImageData
from cnnlab.errors import UsageError
from cnnlab.settings.dataset import Validation


def divide(data: ImageData, validation: Validation) -> tuple[Tensor, Tensor]:
    """Return the indices of the training and of the validation images, both in file order.

    Those of `split` or `fold`, or the dataset's own validation split where it brings one; where images have keys,
    `random` goes by their content.
    """
    if validation.method == "fold":
        if data.own_validation:
            raise UsageError(
                f"dataset.validation.method='fold' divides the training images anew, but dataset={data.name} brings a "
                "validation split of its own; take random or last, or put its images to the training images"
            )
        return fold(data.train_labels, validation, data.train_keys)
    if data.own_validation:
        index = torch.arange(len(data.train_labels))
        return index[: -data.own_validation], index[-data.own_validation :]
    if data.train_keys and validation.method == "random" and validation.fraction > 0:
        key = "dataset.validation.fraction"
        return by_content(data.train_keys, data.train_labels, validation.fraction, validation.seed, key)
    return split(data.train_labels, validation)


def fold(labels: Tensor, validation: Validation, keys: Sequence[str] = ()) -> tuple[Tensor, Tensor]:
    """Return the int64 indices of the training images and of part `fold` of `folds`, both in file order.

    The parts are the same for all of them: disjoint, all images together, every class alike (scikit-learn's
    StratifiedKFold, shuffled by `seed`). Images with the same key are copies, and in the same part (its
    StratifiedGroupKFold). Raises UsageError for a class with fewer images than there are parts.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    fewest = int(labels.unique(return_counts=True)[1].min())
    if fewest < validation.folds:
        raise UsageError(
            f"dataset.validation.folds={validation.folds} needs as many images of every class, and one class has "
            f"{fewest}; allowed: 2 to {fewest}"
        )
    copies = len(set(keys)) < len(keys)
    kind = StratifiedGroupKFold if copies else StratifiedKFold
    divided = kind(validation.folds, shuffle=True, random_state=validation.seed)
    parts = list(divided.split(labels.numpy(), labels.numpy(), np.array(keys) if copies else None))
    train, held_out = parts[validation.fold]
    return torch.from_numpy(np.sort(train)), torch.from_numpy(np.sort(held_out))


def by_content(keys: Sequence[str], labels: Tensor, fraction: float, seed: int, key: str) -> tuple[Tensor, Tensor]:
    """Return the int64 indices of the images that stay and of those held out, both in file order.

    Each image's own content decides, so that it stays where it is when others come or go, and copies stay together;
    about `fraction` of them are held out, and at least one of each class. Raises UsageError for a class of one image.
    """
    _need_two_a_class(labels.unique(return_counts=True)[1].min().item(), fraction, key)
    numbers = torch.tensor([_number(f"{key}:{seed}:{name}") for name in keys], dtype=torch.float64)
    held_out = numbers < fraction
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        if not held_out[members].any():
            held_out[members[numbers[members].argmin()]] = True
        elif held_out[members].all():
            held_out[members[numbers[members].argmax()]] = False
    return (~held_out).nonzero().flatten(), held_out.nonzero().flatten()


def _number(text: str) -> float:
    """Return a number from 0 to 1 that looks random and depends on the text alone."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64


def split(labels: Tensor, validation: Validation) -> tuple[Tensor, Tensor]:
    """Return the int64 indices of the training and of the validation images, both in file order.

    `random` takes the fraction out of every class alike, chosen by `seed`. `last` takes the end of the file order,
    cut where Keras' `validation_split` cuts: at floor(n * (1 - fraction)). A fraction of 0 leaves validation empty.
    Raises UsageError for labels that cannot be divided so.
    """
    fraction = validation.fraction
    if fraction == 0:
        return torch.arange(len(labels)), torch.empty(0, dtype=torch.int64)
    if validation.method == "random":
        return stratified(labels, fraction, validation.seed, "dataset.validation.fraction")
    return _last(labels, fraction)


def stratified(labels: Tensor, fraction: float, seed: int, key: str) -> tuple[Tensor, Tensor]:
    """Return the int64 indices of the images that stay and of those held out, both in file order.

    `fraction`, above 0 and below 1, is taken out of every class alike, rounded up in all; `seed` chooses the images.
    `key` names the fraction in the configuration. Raises UsageError when a class has fewer than two images, or when
    one side would have fewer images than there are classes.
    """
    _, counts = np.unique(labels.numpy(), return_counts=True)
    total, classes = len(labels), len(counts)
    size = math.ceil(total * fraction)
    _need_two_a_class(counts.min(), fraction, key)
    if size < classes or total - size < classes:
        raise UsageError(
            f"{key}={fraction} divides {total} images into {total - size} and {size}, too few for {classes} "
            f"classes; allowed: {classes / total:.3g} to {1 - classes / total:.3g}"
        )
    leave = torch.from_numpy(drawn.held_out(labels.numpy(), size, seed))
    return (~leave).nonzero().flatten(), leave.nonzero().flatten()


def _need_two_a_class(smallest: int, fraction: float, key: str) -> None:
    if smallest < 2:
        raise UsageError(f"{key}={fraction} needs at least 2 images of every class; the smallest has {smallest}")


def _last(labels: Tensor, fraction: float) -> tuple[Tensor, Tensor]:
    total = len(labels)
    cut = int(total * (1 - fraction))
    if cut in (0, total):
        raise UsageError(f"dataset.validation.fraction={fraction} of {total} images leaves one side empty")
    lost = set(labels.tolist()) - set(labels[:cut].tolist())
    if lost:
        raise UsageError(
            f"dataset.validation.fraction={fraction} with dataset.validation.method=last leaves no training image "
            f"of {len(lost)} classes; use dataset.validation.method=random"
        )
    index = torch.arange(total)
    return index[:cut], index[cut:]
