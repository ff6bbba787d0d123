"""What is said of some measurements."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the first quartile, the median and the third one; of a single value three times that."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of ours over the median of theirs."""
    return statistics.median(ours) / statistics.median(theirs)


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the median, by order statistics; all there are where they are too few for one."""
    from scipy import stats

    ordered = sorted(values)
    place = int(stats.binom.ppf(0.025, len(ordered), 0.5))
    return ordered[place], ordered[-1 - place]
