"""A finding in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cnnlab.sweeps.view import duration
from cnnlab.verdicts.comparison import Comparison
from cnnlab.verdicts.decision import Answer, Finding, Rule, pairs_needed, smallest_found
from cnnlab.verdicts.images import Images
from cnnlab.verdicts.pairs import Pair


def number(value: float, like: float = 0.0, *, sign: bool = False) -> str:
    """Return a metric's value with four decimals, or with as many as `like`, its error, needs for two digits."""
    decimals = 4
    if 0 < abs(like) < math.inf:
        decimals = min(8, max(4, 1 - math.floor(math.log10(abs(like)))))
    return f"{value:{'+' if sign else ''}.{decimals}f}"


def interval(finding: Finding) -> str:
    """Return `+0.0012 ± 0.0004`, or the mean alone where nothing can be said about its error."""
    mean = number(finding.mean, finding.half_width, sign=True)
    return mean if math.isinf(finding.half_width) else f"{mean} ± {number(finding.half_width, finding.half_width)}"


def share(alpha: float) -> str:
    """Return the confidence, as `95 %`."""
    return f"{100 * (1 - alpha):.4g} %"


def counted(count: int, word: str) -> str:
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def sentence(finding: Finding, rule: Rule, seconds: float) -> str:
    """Return the verdict in one sentence; `seconds` is what a pair takes. Of folds there are no more than there are.

    The mean and its interval are of B's gain: positive where B is better, also of a metric of which less is better.
    """
    sure, seeds = share(rule.design.alpha), counted(finding.pairs, rule.unit)
    size = number(abs(finding.mean), finding.half_width)
    error = number(finding.half_width, finding.half_width)
    if finding.answer in (Answer.BETTER, Answer.WORSE):
        winner = "B" if finding.answer is Answer.BETTER else "A"
        return f"{winner} better by {size} ± {error} ({sure}), {seeds}"
    if finding.answer is Answer.NO_WORSE:
        return f"B no worse than A by more than {rule.delta:g}: {interval(finding)} ({sure}), {seeds}"
    if math.isinf(finding.half_width):
        return f"no answer: {counted(finding.pairs, 'pair')}, and the first look comes after {rule.design.first}"
    said = f"indistinguishable after {seeds}: {interval(finding)} ({sure})"
    return said if rule.overlap else f"{said}; {outlook(finding, rule, seconds)}"


def outlook(finding: Finding, rule: Rule, seconds: float) -> str:
    """Return what it would take: for `delta`, or else for a difference as large as the one seen."""
    wanted = rule.delta or abs(finding.mean)
    deviation = max(finding.deviation, rule.step)
    needed = pairs_needed(wanted, deviation, rule)
    named = number(wanted, wanted)
    if needed is not None:
        return f"a difference of {named} would need about {counted(needed, 'seed')}, {duration(needed * seconds)[6:]}"
    if deviation == 0:
        return "no two trainings differed"
    found = smallest_found(finding.deviation, finding.pairs, rule)
    return f"differences from about {number(found, found)} on would have been found"


def pair_line(this: Comparison, pairs: Sequence[Pair]) -> str:
    """Return one line about the last of the pairs, and where the comparison stands."""
    pair, finding = pairs[-1], this.find(list(pairs))
    first, second = pair.numbers
    seeds = f"{this.rule.unit} {first}" if first == second else f"{this.rule.unit}s {first} and {second}"
    difference = number(pair.values[1] - pair.values[0], sign=True)
    line = f"{seeds}: A {pair.values[0]:.4f}  B {pair.values[1]:.4f}  B - A {difference}"
    return line if math.isinf(finding.half_width) else f"{line}; B's gain so far {interval(finding)}"


def image_lines(images: Images, alpha: float) -> dict[str, str]:
    """Return what the images say, one row a thing."""
    mean = number(images.mean, images.high - images.low, sign=True)
    low, high = (number(value, images.high - images.low, sign=True) for value in (images.low, images.high))
    uneven = sum(probability < alpha for _, _, probability in images.pairs)
    more = " more often" if images.seeds > 1 else ""
    rows = {
        "image noise": f"B - A {mean}, {low} to {high} for other images of the kind ({share(alpha)}, bootstrap of "
        f"{len(images.label):,} images)",
        "flips": f"B is right{more} for {counted(images.more_b, 'image')}, A for {images.more_a:,}; so uneven by "
        f"chance: p = {images.probability:.2g} (McNemar, exact)",
    }
    if len(images.pairs) > 1:
        rows["pair by pair"] = f"McNemar's p below {alpha:g} in {uneven} of {len(images.pairs)} pairs"
    return rows
