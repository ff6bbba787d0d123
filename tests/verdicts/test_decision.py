"""The decision: its boundaries against the books, its error and its intervals by simulation, its words of advice."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from cnnlab.verdicts.boundaries import Design, boundaries, spent
from cnnlab.verdicts.decision import Answer, Rule, find, look, pairs_needed, smallest_found

DESIGN = Design(3, 8, 0.05)
RULE = Rule(DESIGN, None, 0.0)


def simulated(effect: float, paths: int = 4000, seed: int = 1) -> np.ndarray:
    """Differences of 8 pairs whose deviation is 1, [paths, 8]; not those that the boundaries were found with."""
    return np.random.default_rng(seed).standard_normal((paths, DESIGN.last)) + effect


def test_the_error_is_spent_as_obrien_and_fleming_do():
    assert spent(1, 0.05) == pytest.approx(0.05)
    # Lan and DeMets 1983: at half the information 2 - 2 * Phi(1.96 / sqrt(.5)).
    assert spent(0.5, 0.05) == pytest.approx(0.005575, abs=1e-6)


def test_the_bounds_fall_and_the_last_one_keeps_most_of_the_level():
    bounds = boundaries(DESIGN)
    assert len(bounds) == 6 and list(bounds) == sorted(bounds, reverse=True)
    assert bounds[0] == pytest.approx(stats.t.isf(spent(3 / 8, 0.05) / 2, 2))
    assert 2 * stats.t.sf(bounds[-1], 7) == pytest.approx(0.030, abs=0.001)
    # With 3 of 50 pairs next to nothing may be spent, and then nothing for a while: such looks stop nobody.
    assert boundaries(Design(3, 20, 0.05))[0] > 1000


def test_a_design_of_one_look_is_the_t_test():
    assert boundaries(Design(5, 5, 0.05)) == (pytest.approx(stats.t.isf(0.025, 4)),)
    assert boundaries(Design(2, 2, 0.1)) == (pytest.approx(stats.t.isf(0.05, 1)),)


def test_equal_settings_are_told_apart_in_five_of_a_hundred_comparisons_over_all_looks():
    answers = [find(list(row), RULE).answer for row in simulated(0.0)]
    wrong = sum(answer is not Answer.OPEN for answer in answers)
    assert stats.binomtest(wrong, len(answers), 0.05).pvalue > 0.01
    assert abs(answers.count(Answer.BETTER) - answers.count(Answer.WORSE)) < 3 * math.sqrt(wrong)
    # A t test after every pair would say so far more often: that is what the boundaries are for.
    often = sum(
        any(stats.ttest_1samp(row[:pairs], 0).pvalue < 0.05 for pairs in range(3, 9)) for row in simulated(0.0, 400)
    )
    assert often > 40


def test_folds_share_images_and_so_their_mean_is_less_sure():
    differences = [0.01, 0.03, 0.02, 0.05, 0.04]
    seeds, folds = (look(differences, Rule(Design(3, 5, 0.05), None, 0.0, overlap)) for overlap in (0.0, 1 / 4))
    # Nadeau and Bengio 2003: s^2 (1 / n + images validated on / images trained on) in the place of s^2 / n.
    assert folds.half_width / seeds.half_width == pytest.approx(math.sqrt((1 / 5 + 1 / 4) / (1 / 5)))
    assert (seeds.answer, folds.answer) == (Answer.BETTER, Answer.OPEN)
    assert (folds.mean, folds.deviation) == (seeds.mean, seeds.deviation)


@pytest.mark.parametrize("effect", [0.0, 0.7, 3.0])
def test_the_interval_holds_the_true_difference_wherever_looking_ended(effect):
    findings = [find(list(row), RULE) for row in simulated(effect, seed=2)]
    missed = sum(not finding.low <= effect <= finding.high for finding in findings)
    assert missed / len(findings) < 0.06


def test_no_worse_is_said_in_error_in_at_most_a_fortieth():
    rule = Rule(DESIGN, 1.0, 0.0)
    answers = [find(list(row), rule).answer for row in simulated(-1.0, seed=3)]  # B worse by just delta
    wrong = sum(answer in (Answer.NO_WORSE, Answer.BETTER) for answer in answers)
    assert wrong / len(answers) < 0.032
    answers = [find(list(row), Rule(DESIGN, 3.0, 0.0)).answer for row in simulated(0.0, seed=3)]
    assert sum(answer is Answer.NO_WORSE for answer in answers) / len(answers) > 0.9


def test_looking_ends_at_the_first_answer_and_what_comes_later_changes_nothing():
    differences = [1.0, 1.1, 0.9, 1.0, 1.05, -50.0, -50.0, -50.0]
    finding = find(differences, RULE)
    assert (finding.answer, finding.pairs) == (Answer.BETTER, 4)
    assert find([-item for item in differences], RULE).answer is Answer.WORSE
    assert finding.half_width == pytest.approx(boundaries(DESIGN)[1] * np.std(differences[:4], ddof=1) / 2)


def test_fewer_pairs_than_a_look_needs_say_nothing():
    for differences in ([], [1.0], [1.0, 1.0]):
        finding = find(differences, RULE)
        assert finding.answer is Answer.OPEN and math.isinf(finding.half_width) and finding.pairs == len(differences)


def test_equal_steps_of_a_coarse_metric_are_no_certainty():
    step = 1 / 144
    assert find([step] * 3, Rule(DESIGN, None, step)).answer is Answer.OPEN  # their deviation is 0
    assert find([step] * 8, Rule(DESIGN, None, step)).answer is Answer.BETTER  # after eight it is beyond one image
    assert find([0.0] * 8, Rule(DESIGN, None, step)).answer is Answer.OPEN


def test_without_any_chance_the_difference_is_what_it_is():
    assert look([0.25] * 3, RULE).answer is Answer.BETTER and look([0.25] * 3, RULE).half_width == 0
    assert look([0.0] * 3, RULE).answer is Answer.OPEN
    assert look([0.0] * 3, Rule(DESIGN, 0.1, 0.0)).answer is Answer.NO_WORSE


def test_the_pairs_that_it_would_need_find_the_difference_in_four_of_five_comparisons():
    needed = pairs_needed(0.9, 1.0, RULE)
    assert needed is not None and 12 <= needed <= 16
    design = Design(3, needed, 0.05)
    rows = np.random.default_rng(4).standard_normal((3000, needed)) + 0.9
    found = np.mean([find(list(row), Rule(design, None, 0.0)).answer is Answer.BETTER for row in rows])
    assert 0.76 < found < 0.86
    assert smallest_found(1.0, needed, RULE) == pytest.approx(0.9, rel=0.05)
    assert pairs_needed(0.0, 1.0, RULE) is None and pairs_needed(1e-9, 1.0, RULE) is None
