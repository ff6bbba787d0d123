"""CIFAR-10, read from its published archive or from the files extracted from it."""

from __future__ import annotations

import io
import pickle
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cnnlab.data.archives import obtain, read_bounded, verified
from cnnlab.data.images import ImageData
from cnnlab.errors import UsageError, one_line
from cnnlab.settings.dataset import Archive

SHAPE = (3, 32, 32)


def load(dataset: Archive) -> ImageData:
    """Return 50,000 training and 10,000 test images of 3x32x32 from ROOT/cifar-10-batches-py or the archive in ROOT.

    The archive is read in memory, so a root that cannot be written serves as well. Nothing is unpickled before its
    MD5 is verified. Where the dataset is sealed, the file of the test images is not read, nor taken out of the archive.
    """
    from torchvision.datasets import CIFAR10

    root = Path(dataset.root).expanduser()
    test_list = [] if dataset.sealed else CIFAR10.test_list
    md5s = {**dict(CIFAR10.train_list), **dict(test_list), CIFAR10.meta["filename"]: CIFAR10.meta["md5"]}
    extracted = root / CIFAR10.base_folder
    if all((extracted / name).is_file() for name in md5s):
        contents = verified(extracted, md5s)
    else:
        mirror = CIFAR10.url.removesuffix(CIFAR10.filename)
        archive_md5 = {CIFAR10.filename: CIFAR10.tgz_md5}
        archives = obtain(dataset.name, root, archive_md5, [mirror], dataset.download)
        contents = _extract(archives[CIFAR10.filename], CIFAR10.base_folder, list(md5s), root / CIFAR10.filename)
    train_images, train_labels = _batches(contents, [name for name, _ in CIFAR10.train_list])
    test_images, test_labels = train_images[:0], train_labels[:0]
    if test_list:
        test_images, test_labels = _batches(contents, [name for name, _ in test_list])
    class_names = pickle.loads(contents[CIFAR10.meta["filename"]], encoding="latin1")[CIFAR10.meta["key"]]
    return ImageData(
        name=dataset.name,
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        class_names=tuple(class_names),
        source=CIFAR10.url,
        sealed=dataset.sealed,
    )


def _extract(archive: bytes, folder: str, names: list[str], path: Path) -> dict[str, bytes]:
    """Return the wanted files of an archive; links, and members of any other name, are left alone."""
    wanted = {f"{folder}/{name}": name for name in names}
    contents = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as members:
            for member in members:
                name = wanted.get(member.name) if member.isreg() else None
                if name and (file := members.extractfile(member)):
                    contents[name] = read_bounded(file, f"{path}: {member.name}")
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} cannot be read: {one_line(error)}") from error
    if missing := [name for name in names if name not in contents]:
        raise UsageError(f"{path} does not hold {', '.join(missing)}")
    return contents


def _batches(contents: Mapping[str, bytes], names: list[str]) -> tuple[Tensor, Tensor]:
    entries = [pickle.loads(contents[name], encoding="latin1") for name in names]
    images = np.concatenate([entry["data"] for entry in entries]).reshape(-1, *SHAPE)
    labels = np.concatenate([entry["labels"] for entry in entries])
    return torch.from_numpy(images), torch.from_numpy(labels).long()
