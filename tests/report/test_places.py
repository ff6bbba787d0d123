"""Rows that a paired test tells apart, and those that it does not."""

from __future__ import annotations

import pytest
from scipy import stats

from cnnlab.report.places import better_than, paired_p, places


def seeds(*values: float) -> dict[str, float]:
    return {str(seed): value for seed, value in enumerate(values)}


def test_pairs_are_of_the_seeds_in_common():
    a, b = {"0": 0.90, "1": 0.91, "2": 0.92, "7": 0.1}, {"0": 0.93, "1": 0.94, "2": 0.94, "9": 0.99}
    mean, probability = paired_p(a, b)
    assert mean == pytest.approx(0.08 / 3)
    assert probability == pytest.approx(stats.ttest_rel([0.93, 0.94, 0.94], [0.90, 0.91, 0.92]).pvalue)
    assert paired_p({"0": 1.0, "1": 1.0}, {"0": 0.5, "1": 0.4}) is None
    assert paired_p(seeds(0.5, 0.5, 0.5), seeds(0.25, 0.25, 0.25)) is None  # no spread, nothing to judge by


def test_a_clearly_better_row_is_first_and_the_others_share_their_places():
    best = seeds(0.990, 0.991, 0.992, 0.991)
    second, third = seeds(0.980, 0.979, 0.982, 0.981), seeds(0.979, 0.981, 0.981, 0.980)
    assert better_than([best, second, third]) == {(0, 1), (0, 2)}
    assert places([best, second, third]) == [(1, 1), (2, 3), (2, 3)]
    alone = seeds(0.999)  # one seed: nobody knows
    assert places([alone, best, second, third]) == [(1, 4), (1, 2), (2, 4), (2, 4)]
    assert places([best]) == [(1, 1)] and places([]) == []


def test_the_error_is_that_of_all_pairs_together():
    a, b = seeds(0.90, 0.91, 0.92), seeds(0.93, 0.93, 0.96)
    _, probability = paired_p(a, b)
    assert 0.01 < probability < 0.05
    assert better_than([a, b]) == {(1, 0)}
    noise = [seeds(0.5 + 0.01 * row, 0.6, 0.5 - 0.01 * row) for row in range(6)]
    assert (1, 0) not in better_than([a, b, *noise])
