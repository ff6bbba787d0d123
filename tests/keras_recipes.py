"""What the recorded Keras steps were computed from: weights and images that any machine draws alike.

Needs numpy alone, so that `record_keras.py` can run where Keras is installed and cnnlab is not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

STEPS = 5
SIDE = 28
CLASSES = 10


@dataclass(frozen=True)
class Recipe:
    """A published network, without its dropout, and how its recipe trains it."""

    filters: tuple[int, ...]
    hidden: tuple[int, ...]
    kernel: int
    padding: str
    pools: tuple[bool, ...]
    scale: float  # of the pixels
    batch: int
    l2: float = 0.0
    optimizer: str = "adam"


RECIPES = {
    "dnn": Recipe((), (64, 16), 0, "valid", (), 1.0, 128),
    "mlp": Recipe((), (512,), 0, "valid", (), 1 / 255, 200),
    "simple_cnn": Recipe((64, 128), (), 2, "same", (True, True), 1.0, 128),
    "deep_cnn": Recipe((32, 64, 128, 256), (), 2, "same", (True,) * 4, 1.0, 128, l2=0.01),
    "cnn_dropout": Recipe((32, 64), (128,), 3, "valid", (False, True), 1 / 255, 200),
    "fashion_cnn": Recipe((32, 64), (100,), 3, "same", (True, True), 1 / 255, 32),
    "convnet": Recipe((32, 64, 64), (64,), 3, "valid", (True, True, False), 1 / 255, 64, optimizer="rmsprop"),
}


def weights(shapes: Sequence[tuple[int, ...]]) -> Iterator[np.ndarray]:
    """Yield a float32 array a shape, as torch lays weights out: kernels [out, in, ...] of He's variance, biases 0."""
    generator = np.random.RandomState(0)  # the only one of numpy's that promises the same numbers for ever
    for shape in shapes:
        deviation = math.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.0
        yield (generator.standard_normal(shape) * deviation).astype("float32")


def batches(size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield STEPS batches: uint8 [size, 1, 28, 28], dark but for a pattern of each class, and their labels."""
    generator = np.random.RandomState(1)
    patterns = generator.random_sample((CLASSES, 1, SIDE, SIDE)) < 0.2
    for _ in range(STEPS):
        labels = generator.randint(0, CLASSES, size)
        yield (patterns[labels] * generator.randint(0, 256, (size, 1, SIDE, SIDE))).astype("uint8"), labels
