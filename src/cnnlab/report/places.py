"""Which rows of a leaderboard can be told apart: the places that each may have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

LEVEL = 0.05  # of all comparisons within a dataset together
FEWEST = 3  # seeds in common that a paired test needs


def paired_p(a: Mapping[str, float], b: Mapping[str, float]) -> tuple[float, float] | None:
    """Return the mean of b - a over the seeds in common, and Student's two-sided probability of one so far from 0.

    None for fewer than three seeds in common, and where all differences are equal, as those of a coarse metric may be.
    """
    from scipy import stats  # --help of the report must not wait for it

    seeds = sorted(a.keys() & b.keys())
    differences = np.array([b[seed] - a[seed] for seed in seeds])
    if len(seeds) < FEWEST or np.ptp(differences) == 0:
        return None
    return float(differences.mean()), float(stats.ttest_1samp(differences, 0).pvalue)


def better_than(rows: Sequence[Mapping[str, float]]) -> set[tuple[int, int]]:
    """Return the pairs (i, j) of rows of which i is better than j, by paired t tests on the seeds they have in common.

    A row is its values by seed, more being better. Holm's correction (1979) over all pairs that can be tested holds the
    error of all of them together at 5 %.
    """
    tested = []
    for first, second in combinations(range(len(rows)), 2):
        if (found := paired_p(rows[first], rows[second])) is not None:
            mean, probability = found
            tested.append((probability, (first, second) if mean < 0 else (second, first)))
    apart: set[tuple[int, int]] = set()
    for place, (probability, pair) in enumerate(sorted(tested)):
        if probability > LEVEL / (len(tested) - place):
            break
        apart.add(pair)
    return apart


def places(rows: Sequence[Mapping[str, float]]) -> list[tuple[int, int]]:
    """Return the best and the worst place, counted from 1, that each row may have: behind all that are better than it,
    and before all that it is better than."""
    apart = better_than(rows)
    found = []
    for row in range(len(rows)):
        above = sum(pair[1] == row for pair in apart)
        below = sum(pair[0] == row for pair in apart)
        found.append((1 + above, len(rows) - below))
    return found
