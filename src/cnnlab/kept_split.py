"""The images of a split as a training had it, found again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from cnnlab.checkpoint import Saved
from cnnlab.data.images import ImageData
from cnnlab.data.rows import Images, Rows, same
from cnnlab.data.split import divide
from cnnlab.errors import UsageError
from cnnlab.settings.description import Description, KeptImages


def common_split(members: Sequence[Saved], data: ImageData, split: str) -> tuple[Images, Tensor]:
    """Return the images and labels of a split that all members have; raises UsageError where they differ.

    A member that was trained on another one's validation images would make the validation of both worthless.
    """
    images, labels = split_of(data, members[0].description, split)
    for member in members[1:]:
        if not same(images, split_of(data, member.description, split)[0]):
            raise UsageError(
                f"split={split!r}: run={member.run_id} and run={members[0].run_id} have other images there; an "
                "ensemble is measured on images that are the same for all its members, as split=test is"
            )
    return images, labels


def split_of(data: ImageData, trained: Description, split: str) -> tuple[Images, Tensor]:
    """Return the images and labels of a split, cut as the training cut it; raises UsageError where it is empty.

    Of a user's own images those that the training had in this split, wherever they lie now; none that came later.
    """
    unlisted = split == "test" and trained.images is not None and not trained.images.test  # it was sealed
    if trained.images is not None and data.train_keys and not unlisted:
        return listed(data, getattr(trained.images, split), split)
    if split == "test":
        return data.test_images, data.test_labels
    train_index, validation_index = divide(data, trained.dataset.validation)
    index = train_index if split == "train" else validation_index
    if len(index) == 0:
        raise UsageError("split='val' is empty: this run trained without validation; allowed: train, test")
    return Rows(data.train_images, index), data.train_labels[index]


def listed(data: ImageData, keys: tuple[str, ...], split: str) -> tuple[Images, Tensor]:
    """Return the images with these keys, and their labels, each as often as it is listed, in today's file order.

    They are copied only where some are among the training images today, and some in the test split.
    """
    wanted = Counter(keys)
    parts = [
        (data.train_images, data.train_labels, data.train_keys),
        (data.test_images, data.test_labels, data.test_keys),
    ]
    images: list[Rows] = []
    labels: list[Tensor] = []
    if data.sealed:
        del parts[1]
    for part_images, part_labels, part_keys in reversed(parts) if split == "test" else parts:
        places = []
        for place, key in enumerate(part_keys):
            if wanted[key] > 0:
                wanted[key] -= 1
                places.append(place)
        if places:
            index = torch.tensor(places)
            images.append(Rows(part_images, index))
            labels.append(part_labels[index])
    if not images:
        why = (
            "this run trained without validation" if not keys else f"none of its {len(keys)} images are there any more"
        )
        raise UsageError(f"split={split!r} is empty: {why}")
    return images[0] if len(images) == 1 else torch.cat([part[:] for part in images]), torch.cat(labels)


def describe_change(data: ImageData, images: KeptImages | None) -> str:
    """Return in words which images came and went since the training; nothing where none did."""
    if images is None or not data.train_keys:
        return ""
    known, now = {*images.train, *images.val, *images.test}, set(data.train_keys)
    if images.test:  # a folder of its own that is sealed was not listed
        now |= set(data.test_keys)
    if known == now:
        return ""
    return (
        f"the images have changed since the training: {len(now - known)} new images are left out, "
        f"{len(known - now)} of {len(known)} are gone"
    )
