"""What a dataset is: its images in memory, where they come from, how they are split, scaled and batched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnnlab.data import cifar, digits, folder, mnist
from cnnlab.data.images import ImageData
from cnnlab.errors import UsageError, unknown

SOURCES = {
    "digits": digits.load,
    **dict.fromkeys(mnist.TORCHVISION_CLASSES, mnist.load),
    "cifar10": cifar.load,
    "image_folder": folder.load,
}


def load(dataset: Mapping[str, Any]) -> ImageData:
    """Return the whole dataset, training and test images, that the `dataset` section of the configuration names.

    Missing archives are downloaded when `dataset.download` allows it. Raises UsageError for a dataset that is unknown,
    missing, altered or unreadable.
    """
    name = dataset["name"]
    if name not in SOURCES:
        raise UsageError(unknown("dataset.name", name, SOURCES))
    return SOURCES[name](dataset)
