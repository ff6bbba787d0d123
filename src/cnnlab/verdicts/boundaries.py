"""How far a t statistic has to be from 0 when it is looked at after every pair, and not once.

A group-sequential test spends its error over the looks (Lan and DeMets, Discrete sequential boundaries for clinical
trials, Biometrika 70, 1983). The boundaries in the books are those of a normal statistic; with three pairs a t
statistic is far from normal (2 degrees of freedom), so they are found for the t process itself: its law does not depend
on mean (0 under the hypothesis) or scale of the differences, and so one simulation per design gives them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats

PATHS = 1_000_000  # simulated; the error of a design then is known to ± .0004
SEED = 0


@dataclass(frozen=True)
class Design:
    """When is looked, after `first` to `last` pairs, one look each; `alpha` is the error of all looks together."""

    first: int
    last: int
    alpha: float

    def bound(self, pairs: int) -> float:
        """Return what |t| has to reach after that many pairs; infinity before the first look."""
        return boundaries(self)[pairs - self.first] if pairs >= self.first else float("inf")


def spent(share: float, alpha: float) -> float:
    """Return the error spent after a share (0 to 1) of the pairs, as O'Brien and Fleming's boundaries spend it.

    Little at first: the last look keeps nearly the level of a single test (.030 of .050 after 3 to 8 pairs, where
    Pocock's keeps .011), which is where the power comes from when pairs are few.
    """
    return float(2 * stats.norm.sf(stats.norm.isf(alpha / 2) / np.sqrt(share)))


@cache
def boundaries(design: Design) -> tuple[float, ...]:
    """Return the bound of |t| at each look; infinity where nothing may be spent yet.

    That of the first look, and of a design of one look, is Student's own quantile; the others are quantiles of the
    simulated statistics that no earlier look has stopped. The same design always gives the same bounds.
    """
    generator = np.random.default_rng(SEED)
    sums, squares = np.zeros(PATHS), np.zeros(PATHS)
    stopped, found = 0, []
    for pairs in range(1, design.last + 1):
        drawn = generator.standard_normal(len(sums))
        sums += drawn
        squares += drawn**2
        if pairs < design.first:
            continue
        error = spent(pairs / design.last, design.alpha)
        if pairs == design.first:
            bound = float(stats.t.isf(error / 2, pairs - 1))
            if pairs == design.last:
                return (bound,)
        deviation = np.sqrt((squares - sums**2 / pairs) / (pairs - 1))
        statistic = np.abs(sums) / (deviation * np.sqrt(pairs))
        if pairs > design.first:
            to_stop = round(error * PATHS) - stopped
            place = len(statistic) - to_stop
            bound = float(np.partition(statistic, place)[place]) if to_stop > 0 else float("inf")
        going_on = statistic < bound
        stopped += int(len(statistic) - going_on.sum())
        sums, squares = sums[going_on], squares[going_on]
        found.append(bound)
    return tuple(found)
