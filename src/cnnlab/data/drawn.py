"""Which images a random split holds out, out of every class alike: scikit-learn's choice, without its import.

The same images as `sklearn.model_selection.train_test_split(stratify=..., random_state=...)` holds out, which takes a
second to import together with what it needs of SciPy. Its documentation calls it StratifiedShuffleSplit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


def held_out(labels: Counts, size: int, seed: int) -> NDArray[np.bool_]:
    """Return which of the images [N] are held out, `size` of them; every class has at least two images."""
    random = np.random.RandomState(seed)
    _, counts = np.unique(labels, return_counts=True)
    members = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    stay = shares(counts, len(labels) - size, random)
    leave = shares(counts - stay, size, random)
    chosen = np.zeros(len(labels), dtype=bool)
    for images, staying, leaving in zip(members, stay, leave, strict=True):
        shuffled = images[random.permutation(len(images))]
        chosen[shuffled[staying : staying + leaving]] = True
    return chosen


def shares(counts: Counts, size: int, random: np.random.RandomState) -> Counts:
    """Return how many of `size` images each class gives: its part rounded down, then by the largest remainders.

    Among classes with the same remainder chance decides.
    """
    parts = counts / counts.sum() * size
    given = np.floor(parts)
    remainders = parts - given
    missing = int(size - given.sum())
    for remainder in np.unique(remainders)[::-1]:
        if missing == 0:
            break
        (alike,) = np.where(remainders == remainder)
        drawn = random.choice(alike, size=min(len(alike), missing), replace=False)
        given[drawn] += 1
        missing -= len(drawn)
    return given.astype(np.int64)
