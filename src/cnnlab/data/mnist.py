"""MNIST and its two drop-in replacements, read straight from their published gzip archives."""

from __future__ import annotations

import gzip
import io
import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cnnlab.data.archives import obtain, read_bounded
from cnnlab.data.images import ImageData
from cnnlab.settings.dataset import Archive

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
UNSIGNED_BYTE = 0x08
TRAINING_FILES = 2  # images and labels; those of the test split follow


@dataclass(frozen=True)
class Published:
    """A dataset as it was published: torchvision's folder for it, mirrors, the MD5 of each of `FILES`, classes."""

    folder: str
    mirrors: tuple[str, ...]
    md5s: tuple[str, str, str, str]
    classes: tuple[str, ...]


# What torchvision.datasets knows of them, written down because torchvision takes seconds to import.
PUBLISHED = {
    "mnist": Published(
        "MNIST",
        ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
        (
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
        tuple("0123456789"),
    ),
    "fashion_mnist": Published(
        "FashionMNIST",
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        (
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
        ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    "kmnist": Published(
        "KMNIST",
        ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        (
            "bdb82020997e1d708af4cf47b453dcf7",
            "e144d726b3acfaa3e44228e80efcd344",
            "5c965bf0a639b31b8f53240b1b52f4d7",
            "7320c461ea6c1c855c0b718fb2a4b134",
        ),
        ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    ),
}


def load(dataset: Archive) -> ImageData:
    """Return 60,000 training and 10,000 test images of 1x28x28 from ROOT/<class>/raw, torchvision's own folder.

    The two archives of the test images are neither read nor downloaded where the dataset is sealed. The archives are
    decompressed in memory, so a root that cannot be written serves as well.
    """
    name = dataset.name
    published = PUBLISHED[name]
    folder = Path(dataset.root).expanduser() / published.folder / "raw"
    md5s = dict(zip(FILES, published.md5s, strict=True))
    files = FILES[:TRAINING_FILES] if dataset.sealed else FILES
    contents = obtain(name, folder, {file: md5s[file] for file in files}, published.mirrors, dataset.download)
    train_images, train_labels, *test = [
        parse_idx(read_bounded(gzip.GzipFile(fileobj=io.BytesIO(contents[file])), str(folder / file))) for file in files
    ]
    test_images, test_labels = test or (train_images[:0], train_labels[:0])
    return ImageData(
        name=name,
        train_images=train_images.unsqueeze(1),
        train_labels=train_labels.long(),
        test_images=test_images.unsqueeze(1),
        test_labels=test_labels.long(),
        class_names=published.classes,
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
