"""Writes tiny but valid archives of published datasets, for tests that must not download.

Each maker returns the checksums, as attributes of torchvision's dataset class, that `patch` must set for the archives
to count as the published ones:

    patch(monkeypatch, "mnist", make_mnist_like(tmp_path, "mnist", train=60, test=20))
    data = commands.loaded("mnist", root=tmp_path, download=False)

Labels run 0, 1, ..., 9, 0, ...; pixels are random but the same at every call.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cnnlab.data import mnist

TORCHVISION_CLASSES = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST", "cifar10": "CIFAR10"}
CLASS_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def patch(monkeypatch: Any, name: str, attributes: dict[str, Any]) -> None:
    """Let `attributes` be those of the published dataset `name`, as torchvision calls them, until the test ends."""
    if name in mnist.PUBLISHED:
        changes = {"mirrors": tuple(attributes["mirrors"])} if "mirrors" in attributes else {}
        if "resources" in attributes:
            changes["md5s"] = tuple(md5 for _, md5 in attributes["resources"])
        monkeypatch.setitem(mnist.PUBLISHED, name, replace(mnist.PUBLISHED[name], **changes))
        return
    from torchvision import datasets

    for attribute, value in attributes.items():
        monkeypatch.setattr(getattr(datasets, TORCHVISION_CLASSES[name]), attribute, value)


def make_mnist_like(root: Path, name: str, train: int = 60, test: int = 20, size: int = 28) -> dict[str, Any]:
    """Write the four IDX archives of mnist, fashion_mnist or kmnist below `root`; return the checksums to patch."""
    folder = Path(root) / TORCHVISION_CLASSES[name] / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    resources = []
    for prefix, count, seed in (("train", train, 0), ("t10k", test, 1)):
        images, labels = _random_images(count, (size, size), seed)
        for file, array in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels)):
            archive = gzip.compress(idx(array), mtime=0)
            path = folder / f"{prefix}-{file}.gz"
            path.write_bytes(archive)
            resources.append((path.name, md5(archive)))
    return {"resources": resources}


def make_cifar10(root: Path, train: int = 60, test: int = 20, extracted: bool = False) -> dict[str, Any]:
    """Write the CIFAR-10 archive, or its extracted files, below `root`; return the checksums to patch.

    `train`, a multiple of 5, is divided into five files as in the published archive.
    """
    files = {"batches.meta": pickle.dumps({"label_names": CLASS_NAMES}, protocol=2)}
    images, labels = _random_images(train, (3 * 32 * 32,), 0)
    for number, (pixels, part) in enumerate(zip(np.split(images, 5), np.split(labels, 5), strict=True), start=1):
        files[f"data_batch_{number}"] = _cifar_batch(pixels, part)
    files["test_batch"] = _cifar_batch(*_random_images(test, (3 * 32 * 32,), 1))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    root = Path(root)
    if extracted:
        folder = root / "cifar-10-batches-py"
        folder.mkdir(parents=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    else:
        root.mkdir(parents=True, exist_ok=True)
        (root / "cifar-10-python.tar.gz").write_bytes(buffer.getvalue())
    return {
        "tgz_md5": md5(buffer.getvalue()),
        "train_list": [[f"data_batch_{number}", md5(files[f"data_batch_{number}"])] for number in range(1, 6)],
        "test_list": [["test_batch", md5(files["test_batch"])]],
        "meta": {"filename": "batches.meta", "key": "label_names", "md5": md5(files["batches.meta"])},
    }


def idx(array: np.ndarray) -> bytes:
    """Return a uint8 array as an IDX file."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def _random_images(count: int, shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    images = np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)
    return images, (np.arange(count) % 10).astype(np.uint8)


def _cifar_batch(images: np.ndarray, labels: np.ndarray) -> bytes:
    return pickle.dumps({"data": images, "labels": labels.tolist()}, protocol=2)
