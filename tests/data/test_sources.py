"""The published datasets and the embedded one: shapes, order, class names, digests."""

import gzip
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from cnnlab.data.mnist import parse_idx
from cnnlab.errors import UsageError
from commands import loaded
from data_makers import CLASS_NAMES, idx, make_cifar10, make_mnist_like, patch

REAL = Path(os.environ.get("CNNLAB_DATA", "nowhere"))


def test_digits_are_all_there_with_a_fixed_stratified_test_split():
    data = loaded("digits")
    assert data.input_shape == (1, 28, 28)
    assert data.classes == 10
    assert (len(data.train_images), len(data.test_images)) == (1437, 360)
    assert data.train_images.dtype == torch.uint8 and data.train_labels.dtype == torch.int64
    assert (int(data.train_images.min()), int(data.train_images.max())) == (0, 255)
    # 174 to 183 of each digit in all, of which a fifth is 34.8 to 36.6.
    assert set(torch.bincount(data.test_labels).tolist()) <= {35, 36, 37}
    assert loaded("digits").digest == data.digest == "66f76270f48ed3a5"


def test_idx_is_read_row_by_row():
    array = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert parse_idx(b"\0\0\x08\x03" + b"\0\0\0\x02\0\0\0\x02\0\0\0\x03" + bytes(range(12))).tolist() == array.tolist()
    assert parse_idx(idx(array)).tolist() == array.tolist()
    with pytest.raises(ValueError, match="12 values; this one 11"):
        parse_idx(idx(array)[:-1])
    with pytest.raises(ValueError, match="begins with"):
        parse_idx(b"\0\0\x0d\x01\0\0\0\x01abcd")


@pytest.mark.parametrize(
    ("name", "folder", "first", "last"),
    [
        ("mnist", "MNIST", "0", "9"),
        ("fashion_mnist", "FashionMNIST", "T-shirt/top", "Ankle boot"),
        ("kmnist", "KMNIST", "o", "wo"),
    ],
)
def test_mnist_and_its_kin_from_a_root_that_stays_as_it_was(tmp_path, monkeypatch, name, folder, first, last):
    patch(monkeypatch, name, make_mnist_like(tmp_path, name, train=30, test=10))
    before = sorted(tmp_path.rglob("*"))
    data = loaded(name, root=str(tmp_path), download=True)
    assert sorted(tmp_path.rglob("*")) == before
    assert data.train_images.shape == (30, 1, 28, 28) and data.test_images.shape == (10, 1, 28, 28)
    assert data.train_labels.tolist() == [*range(10)] * 3
    assert (data.class_names[0], data.class_names[-1], data.classes) == (first, last, 10)
    content = gzip.decompress((tmp_path / folder / "raw" / "train-images-idx3-ubyte.gz").read_bytes())
    assert data.train_images.numpy().tobytes() == content[16:]


@pytest.mark.parametrize("extracted", [False, True])
def test_cifar10_from_the_archive_or_its_files(tmp_path, monkeypatch, extracted):
    patch(monkeypatch, "cifar10", make_cifar10(tmp_path, train=50, test=20, extracted=extracted))
    before = sorted(tmp_path.rglob("*"))
    data = loaded("cifar10", root=str(tmp_path), download=False)
    assert sorted(tmp_path.rglob("*")) == before
    assert data.train_images.shape == (50, 3, 32, 32) and data.test_images.shape == (20, 3, 32, 32)
    assert data.train_labels.tolist() == [*range(10)] * 5
    assert list(data.class_names) == CLASS_NAMES
    # The maker's pixels: 3072 numbers an image, red plane first.
    expected = np.random.default_rng(0).integers(0, 256, (50, 3072), dtype=np.uint8)
    assert (data.train_images[49].flatten().numpy() == expected[49]).all()


class Exploit:
    """Unpickles as a call that leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_cifar10_unpickles_nothing_that_was_altered(tmp_path, monkeypatch):
    patch(monkeypatch, "cifar10", make_cifar10(tmp_path, extracted=True))
    trace = tmp_path / "trace"
    altered = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    altered.write_bytes(pickle.dumps(Exploit(trace)))
    with pytest.raises(UsageError) as caught:
        loaded("cifar10", root=tmp_path, download=False)
    assert str(altered) in str(caught.value) and "MD5" in str(caught.value)
    assert not trace.exists()


def test_cifar10_missing_names_the_archive(tmp_path):
    with pytest.raises(UsageError, match=r"cifar-10-python\.tar\.gz.*dataset=digits"):
        loaded("cifar10", root=tmp_path, download=False)


def test_the_digest_follows_pixels_and_labels(tmp_path, monkeypatch):
    patch(monkeypatch, "mnist", make_mnist_like(tmp_path, "mnist"))

    def digest(change=None):
        data = loaded("mnist", root=tmp_path, download=False)
        if change:
            tensor, index, value = change
            getattr(data, tensor)[index] = value
        return data.digest

    first = loaded("mnist", root=tmp_path, download=False).train_images[0, 0, 0, 0].item()
    changes = [("train_images", (0, 0, 0, 0), 255 - first), ("test_labels", 0, 7), ("train_labels", 0, 7)]
    assert len({digest(), *map(digest, changes)}) == 4
    assert digest() == digest()


@pytest.mark.skipif(not (REAL / "MNIST" / "raw").is_dir(), reason="CNNLAB_DATA holds no MNIST")
def test_the_real_mnist():
    data = loaded("mnist", root=REAL, download=False)
    assert data.train_images.shape == (60000, 1, 28, 28) and data.test_images.shape == (10000, 1, 28, 28)
    assert data.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    # The mean that every MNIST tutorial quotes: 0.1307.
    assert data.train_images.double().mean().item() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert data.digest == "3076a0ea8eb1aa3f"


@pytest.mark.skipif(not (REAL / "FashionMNIST" / "raw").is_dir(), reason="CNNLAB_DATA holds no Fashion-MNIST")
def test_the_real_fashion_mnist():
    data = loaded("fashion_mnist", root=REAL, download=False)
    assert torch.bincount(data.train_labels).tolist() == [6000] * 10
    assert torch.bincount(data.test_labels).tolist() == [1000] * 10
    assert data.class_names[data.train_labels[0]] == "Ankle boot"
