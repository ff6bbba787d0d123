"""What the differences of pairs say: better, worse, no worse, or not told apart, after every pair that is looked at."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from scipy import stats

from cnnlab.verdicts.boundaries import Design

POWER = 0.8  # with which a comparison that is planned finds the difference it is planned for
MOST_PAIRS = 100_000  # beyond that a difference is out of reach


class Answer(StrEnum):
    """What a comparison has found of B."""

    BETTER = "better"
    WORSE = "worse"
    NO_WORSE = "no worse"  # than A by more than delta
    OPEN = "indistinguishable"


@dataclass(frozen=True)
class Rule:
    """How differences are judged.

    `delta` is the smallest difference that matters, or None. `step` is the smallest difference that a metric can have,
    1 / images for shares of images and 0 for losses: three equal differences of one image are no certainty, so the
    deviation counts as at least one step. `overlap` is of folds, whose trainings share images and so are no independent
    draws: images validated on by images trained on, by which Nadeau and Bengio (Inference for the Generalization Error,
    Machine Learning 52, 2003) widen the variance of the mean; 0 of seeds.
    """

    design: Design
    delta: float | None
    step: float
    overlap: float = 0.0

    @property
    def unit(self) -> str:
        """What a pair has a number of."""
        return "fold" if self.overlap else "seed"


@dataclass(frozen=True)
class Finding:
    """What the first `pairs` differences say; positive ones speak for B.

    `mean` ± `half_width` is a repeated confidence interval (Jennison and Turnbull, Group Sequential Methods, 2000,
    chapter 9): it holds at all looks together with probability 1 - alpha, however the end was chosen.
    """

    answer: Answer
    pairs: int
    mean: float
    deviation: float
    half_width: float

    @property
    def low(self) -> float:
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        return self.mean + self.half_width


def find(differences: Sequence[float], rule: Rule) -> Finding:
    """Return what the differences say at the first look that gives an answer, or at the last one there was.

    Pairs behind an answer change nothing: looking on until another one comes is what the boundaries forbid.
    """
    looks = range(rule.design.first, min(len(differences), rule.design.last) + 1)
    finding = look(differences[: rule.design.last], rule)
    for pairs in looks:
        finding = look(differences[:pairs], rule)
        if finding.answer is not Answer.OPEN:
            break
    return finding


def look(differences: Sequence[float], rule: Rule) -> Finding:
    """Return what these differences say, all of them."""
    pairs = len(differences)
    mean = statistics.fmean(differences) if differences else 0.0
    measured = statistics.stdev(differences) if pairs > 1 else 0.0
    deviation = max(measured, rule.step)
    bound = rule.design.bound(pairs) if pairs > 1 else math.inf
    # Without any deviation, and no step either, the difference is no matter of chance.
    half_width = math.inf if math.isinf(bound) else bound * deviation * math.sqrt(1 / pairs + rule.overlap)
    answer = Answer.OPEN
    if mean > half_width:
        answer = Answer.BETTER
    elif mean < -half_width:
        answer = Answer.WORSE
    elif rule.delta is not None and mean - half_width > -rule.delta:
        answer = Answer.NO_WORSE
    return Finding(answer, pairs, mean, measured, half_width)


def pairs_needed(difference: float, deviation: float, rule: Rule) -> int | None:
    """Return about how many pairs find a true difference with power .8; None where it is none, or out of reach.

    By the noncentral t distribution, at the level that the design keeps for its last look.
    """
    deviation = max(deviation, rule.step)
    if difference == 0 or deviation == 0:
        return None
    last = rule.design.last
    level = 2 * stats.t.sf(rule.design.bound(last), last - 1)
    low, high = 2, MOST_PAIRS
    if _power(difference / deviation, high, level) < POWER:
        return None
    while low < high:
        middle = (low + high) // 2
        if _power(difference / deviation, middle, level) < POWER:
            low = middle + 1
        else:
            high = middle
    return low


def smallest_found(deviation: float, pairs: int, rule: Rule) -> float:
    """Return the true difference that this many pairs would find with power .8."""
    deviation = max(deviation, rule.step)
    last = rule.design.last
    level = 2 * stats.t.sf(rule.design.bound(last), last - 1)
    low, high = 0.0, 1e3
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _power(middle, pairs, level) < POWER else (low, middle)
    return high * deviation


def _power(effect: float, pairs: int, level: float) -> float:
    """Return the probability that a t test of that level finds an effect, given in deviations."""
    bound, shift = stats.t.isf(level / 2, pairs - 1), abs(effect) * math.sqrt(pairs)
    found = stats.nct.sf(bound, pairs - 1, shift)
    # scipy's noncentral t gives up far out in the tail, where the answer is certain.
    return float(found) if math.isfinite(found) else float(shift > bound)
