"""McNemar's test and the bootstrap over images, by numbers that can be worked out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cnnlab.errors import UsageError
from cnnlab.figures.flips import blocks
from cnnlab.kept_predictions import Kept
from cnnlab.verdicts.images import bootstrap, compare_folds, compare_images, mcnemar


def kept(right: str, index: list[int] | None = None) -> Kept:
    """Predictions of two classes, right where the text has a 1; the true class is 0, its logit 1 above or below."""
    logits = np.array([[1.0, 0.0] if letter == "1" else [0.0, 1.0] for letter in right], dtype=np.float32)
    return Kept(np.array(index or range(len(right))), np.zeros(len(right), dtype=np.int64), logits)


def test_mcnemars_probability_is_that_of_coins():
    # Of 10 discordant images 1 or fewer on either side: 2 * (1 + 10) / 2 ** 10.
    assert mcnemar(1, 9) == mcnemar(9, 1) == pytest.approx(22 / 1024)
    assert mcnemar(5, 5) == pytest.approx(1) and mcnemar(0, 0) == 1
    assert mcnemar(0, 6) == pytest.approx(2 / 64)


def test_images_are_counted_once_for_the_side_that_is_right_in_more_seeds():
    a = [kept("111000"), kept("110010")]
    b = [kept("111100"), kept("011101")]
    found = compare_images(list(zip(a, b, strict=True)), "val/acc", 0.05)
    assert found.a_right.tolist() == [2, 2, 1, 0, 1, 0] and found.b_right.tolist() == [1, 2, 2, 2, 0, 1]
    assert [pair[:2] for pair in found.pairs] == [(0, 1), (2, 3)]
    assert (found.more_a, found.more_b) == (2, 3)
    assert found.probability == mcnemar(2, 3)
    assert found.mean == pytest.approx((4 + 4 - 3 - 3) / 12)


def test_every_image_of_a_fold_counts_once_and_folds_are_of_other_images():
    first = kept("1100", [0, 3, 5, 6]), kept("1011", [0, 3, 5, 6])
    second = kept("000", [1, 2, 4]), kept("001", [1, 2, 4])
    found = compare_folds([first, second], "val/acc", 0.05)
    assert found.index.tolist() == [0, 3, 5, 6, 1, 2, 4] and found.seeds == 1
    assert (found.more_a, found.more_b) == (1, 3) and found.probability == mcnemar(1, 3)
    assert [pair[:2] for pair in found.pairs] == [(1, 2), (0, 1)]
    assert found.mean == pytest.approx(2 / 7)
    with pytest.raises(UsageError, match="not of the same images"):
        compare_folds([(first[0], second[1])], "val/acc", 0.05)
    with pytest.raises(UsageError, match="not of the same images"):
        compare_images([first, second], "val/acc", 0.05)


def test_the_bootstrap_is_the_binomial_one_for_one_pair():
    differences = np.array([1.0] * 30 + [-1.0] * 10 + [0.0] * 360)
    low, high = bootstrap(differences, 0.05)
    error = math.sqrt(np.var(differences) / 400)
    assert low == pytest.approx(0.05 - 1.96 * error, abs=0.004) and high == pytest.approx(
        0.05 + 1.96 * error, abs=0.004
    )
    assert bootstrap(differences, 0.05) == (low, high)
    assert bootstrap(np.zeros(50), 0.05) == (0, 0)


def test_losses_are_compared_by_the_cross_entropy_of_each_image():
    low, high = math.log(1 + math.exp(-1)), math.log(1 + math.e)
    found = compare_images([(kept("1100"), kept("1000"))], "val/loss", 0.05)
    assert found.mean == pytest.approx((high - low) / 4)
    generator = np.random.default_rng(0)
    many = generator.normal(0.3, 1, 500)
    assert bootstrap(many, 0.05)[0] == pytest.approx(many.mean() - 1.96 * many.std() / math.sqrt(500), abs=0.02)


def test_other_images_are_refused():
    with pytest.raises(UsageError, match="not of the same images"):
        compare_images([(kept("10"), kept("10", [1, 0]))], "val/acc", 0.05)


def test_the_clearest_flips_are_drawn_and_a_side_with_few_leaves_room():
    margin = np.array([0, 1, 3, -1, 2, 1])
    b, a = blocks(margin, 4)
    assert (b.winner, b.places.tolist(), b.shown) == ("B", [2, 4, 1, 5], 3)
    assert (a.winner, a.places.tolist(), a.shown) == ("A", [3], 1)
    (only,) = blocks(np.array([1, 1, 0]), 1)
    assert (only.winner, only.shown) == ("B", 1)
    assert blocks(np.zeros(3, dtype=int), 4) == []
