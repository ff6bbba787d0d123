"""scikit-learn's handwritten digits: 1,797 real images that need no download."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import numpy as np
import torch

from cnnlab.data.images import ImageData
from cnnlab.data.split import stratified
from cnnlab.settings.dataset import Archive

SIDE = 8  # of an image, which is followed by its label
SIZE = 28
BRIGHTEST = 16
TEST_FRACTION = 0.2
# Fixed, so that every seed of every run is tested on the same 360 images.
TEST_SEED = 0


def load(dataset: Archive) -> ImageData:
    """Return the 8x8 digits enlarged to 28x28 by bilinear interpolation: 1,437 to train and validate, 360 to test."""
    rows = np.loadtxt(gzip.decompress(archive().read_bytes()).decode().splitlines(), delimiter=",")
    small = torch.from_numpy(rows[:, :-1].reshape(-1, 1, SIDE, SIDE)).float() * (255 / BRIGHTEST)
    large = torch.nn.functional.interpolate(small, size=SIZE, mode="bilinear", align_corners=False)
    images = large.round().to(torch.uint8)
    labels = torch.from_numpy(rows[:, -1]).long()
    train, test = stratified(labels, TEST_FRACTION, TEST_SEED, "dataset.test_fraction")
    if dataset.sealed:
        test = test[:0]
    return ImageData(
        name=dataset.name,
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
        class_names=tuple("0123456789"),
        source="sklearn.datasets.load_digits",
        sealed=dataset.sealed,
    )


def archive() -> Path:
    """Return the file that `sklearn.datasets.load_digits` reads; scikit-learn takes a second to import."""
    spec = importlib.util.find_spec("sklearn")
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
