"""MNIST and its two drop-in replacements, read straight from their published gzip archives."""

from __future__ import annotations

import gzip
import io
import math
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cnnlab.data.archives import obtain, read_bounded
from cnnlab.data.images import ImageData
from cnnlab.settings.dataset import Archive

# torchvision knows the mirrors, the checksums and the class names.
TORCHVISION_CLASSES = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST"}
UNSIGNED_BYTE = 0x08
TRAINING_FILES = 2  # images and labels; those of the test split follow


def load(dataset: Archive) -> ImageData:
    """Return 60,000 training and 10,000 test images of 1x28x28 from ROOT/<class>/raw, torchvision's own folder.

    The two archives of the test images are neither read nor downloaded where the dataset is sealed. The archives are
    decompressed in memory, so a root that cannot be written serves as well.
    """
    from torchvision import datasets

    name = dataset.name
    published = getattr(datasets, TORCHVISION_CLASSES[name])
    folder = Path(dataset.root).expanduser() / published.__name__ / "raw"
    resources = published.resources[:TRAINING_FILES] if dataset.sealed else published.resources
    contents = obtain(name, folder, dict(resources), published.mirrors, dataset.download)
    train_images, train_labels, *test = [
        parse_idx(read_bounded(gzip.GzipFile(fileobj=io.BytesIO(contents[file])), str(folder / file)))
        for file, _ in resources
    ]
    test_images, test_labels = test or (train_images[:0], train_labels[:0])
    # MNIST's names read "7 - seven"; the digit says it all.
    class_names = tuple(str(digit) for digit in range(10)) if name == "mnist" else tuple(published.classes)
    return ImageData(
        name=name,
        train_images=train_images.unsqueeze(1),
        train_labels=train_labels.long(),
        test_images=test_images.unsqueeze(1),
        test_labels=test_labels.long(),
        class_names=class_names,
        source=published.mirrors[0],
        sealed=dataset.sealed,
    )


def parse_idx(content: bytes) -> Tensor:
    """Return the uint8 tensor of an IDX file: two zero bytes, the type, the number of axes, each size, the values.

    Format: http://yann.lecun.com/exdb/mnist/. Raises ValueError for another type or length.
    """
    zeros, kind, axes = struct.unpack_from(">HBB", content)
    if zeros != 0 or kind != UNSIGNED_BYTE:
        raise ValueError(f"an IDX file of unsigned bytes begins with 0, 0, 8; this one with {list(content[:3])}")
    shape = struct.unpack_from(f">{axes}I", content, offset=4)
    start = 4 + 4 * axes
    if len(content) - start != math.prod(shape):
        raise ValueError(f"an IDX file of shape {shape} has {math.prod(shape)} values; this one {len(content) - start}")
    return torch.from_numpy(np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape).copy())
