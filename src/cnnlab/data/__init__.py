"""What a dataset is: its images in memory, where they come from, how they are split, scaled and batched."""

from __future__ import annotations

from collections.abc import Callable

from cnnlab.data import cifar, digits, folder, mnist, own
from cnnlab.data.images import ImageData
from cnnlab.settings.dataset import Archive, Dataset, ImageFolder, OwnImages

LoadData = Callable[[Dataset], ImageData]
SOURCES: dict[str, Callable[[Archive], ImageData]] = {
    "digits": digits.load,
    **dict.fromkeys(mnist.PUBLISHED, mnist.load),
    "cifar10": cifar.load,
}


def load(dataset: Dataset) -> ImageData:
    """Return the whole dataset, training and test images, that the `dataset` section of the configuration names.

    Missing archives are downloaded when `dataset.download` allows it. Raises UsageError for a dataset that is missing,
    altered or unreadable.
    """
    if isinstance(dataset, OwnImages):
        return own.load(dataset)
    return folder.load(dataset) if isinstance(dataset, ImageFolder) else SOURCES[dataset.name](dataset)
