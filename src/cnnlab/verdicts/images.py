"""What differs image by image: the noise of the finite evaluation set, apart from that of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cnnlab.errors import UsageError
from cnnlab.kept_predictions import Kept, joined

RESAMPLES = 10_000
SEED = 0
LOSS = "/loss"
OTHER_IMAGES = "the predictions that the runs have kept are not of the same images"


@dataclass(frozen=True, eq=False)
class Images:
    """What the paired predictions of N images say, over n seeds.

    `a_right` and `b_right` count for each image the seeds in which a side is right, int64 [N]. `pairs` has for each
    seed the images that only A and only B gets right, and McNemar's exact probability of so uneven a division.
    """

    index: NDArray[np.int64]
    label: NDArray[np.int64]
    a_right: NDArray[np.int64]
    b_right: NDArray[np.int64]
    pairs: tuple[tuple[int, int, float], ...]
    mean: float
    low: float
    high: float
    seeds: int  # that each image was predicted with: one of folds

    @property
    def more_a(self) -> int:
        """How many images A gets right in more seeds than B does."""
        return int((self.a_right > self.b_right).sum())

    @property
    def more_b(self) -> int:
        """How many images B gets right in more seeds than A does."""
        return int((self.b_right > self.a_right).sum())

    @property
    def probability(self) -> float:
        """McNemar's exact probability over all seeds; an image counts once, for the side right in more seeds."""
        return mcnemar(self.more_a, self.more_b)


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the two-sided exact probability that images of which one side alone is right divide so unevenly.

    McNemar, Note on the sampling error of the difference between correlated proportions, 1947; by the binomial
    distribution. 1 where there are none.
    """
    total = only_a + only_b
    return float(stats.binomtest(only_a, total).pvalue) if total else 1.0


def compare_images(pairs: Sequence[tuple[Kept, Kept]], metric: str, alpha: float) -> Images:
    """Return what pairs of predictions of the same images say; the first of a pair is A's.

    `mean`, `low` and `high` are of B - A, averaged over the seeds: cross-entropy for a loss, correctness for anything
    else. Raises UsageError where the pairs are not of the same images.
    """
    first = pairs[0][0]
    for kept in (kept for pair in pairs for kept in pair):
        if not (np.array_equal(kept.index, first.index) and np.array_equal(kept.label, first.label)):
            raise UsageError(OTHER_IMAGES)
    a, b = (np.stack([pair[side].right for pair in pairs]) for side in (0, 1))  # [n, N]
    only_a, only_b = (a & ~b).sum(axis=1), (b & ~a).sum(axis=1)
    if metric.endswith(LOSS):
        differences = np.mean([pair[1].losses - pair[0].losses for pair in pairs], axis=0)
    else:
        differences = b.mean(axis=0) - a.mean(axis=0)
    low, high = bootstrap(differences, alpha)
    return Images(
        index=first.index,
        label=first.label,
        a_right=a.sum(axis=0),
        b_right=b.sum(axis=0),
        pairs=tuple((int(x), int(y), mcnemar(int(x), int(y))) for x, y in zip(only_a, only_b, strict=True)),
        mean=float(differences.mean()),
        low=low,
        high=high,
        seeds=len(pairs),
    )


def compare_folds(pairs: Sequence[tuple[Kept, Kept]], metric: str, alpha: float) -> Images:
    """Return what pairs of predictions say, each pair of a fold of its own, so that every image counts once.

    As `compare_images` otherwise. Raises UsageError where the two of a pair are not of the same images.
    """
    folds = [compare_images([pair], metric, alpha).pairs[0] for pair in pairs]
    together = compare_images([(joined([a for a, _ in pairs]), joined([b for _, b in pairs]))], metric, alpha)
    return replace(together, pairs=tuple(folds))


def bootstrap(differences: NDArray[np.float64], alpha: float) -> tuple[float, float]:
    """Return the percentile interval of the mean over images drawn again with replacement; the same each time.

    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13. Images with equal differences are drawn
    together, as counts: that is the same, and takes milliseconds where shares of few seeds have few values.
    """
    values, counts = np.unique(differences, return_counts=True)
    generator = np.random.default_rng(SEED)
    total = len(differences)
    if len(values) > RESAMPLES // 100:  # losses: all different
        means = np.array([differences[generator.integers(total, size=total)].mean() for _ in range(RESAMPLES // 10)])
    else:
        means = generator.multinomial(total, counts / total, size=RESAMPLES) @ values / total
    low, high = np.quantile(means, [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)
