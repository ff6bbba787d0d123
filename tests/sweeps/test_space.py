"""Hydra's sweep grammar becomes Optuna's distributions, and mistakes are refused before anything starts."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from cnnlab.errors import UsageError
from cnnlab.sweeps.configurations import Configurations
from cnnlab.sweeps.grammar import parse, read_space
from cnnlab.sweeps.space import apply

CONFIG = OmegaConf.create(
    {
        "seed": 0,
        "batch_size": "${dataset.batch_size}",
        "dataset": {"batch_size": 32, "scaling": "unit", "validation": {"fraction": 0.1}},
        "model": {"filters": [32, 64], "kernel_size": 2},
        "optimizer": {"lr": 0.001},
    }
)
BASE = Configurations(CONFIG)


@pytest.mark.parametrize(
    ("grammar", "distribution"),
    [
        ("choice(16, 32)", CategoricalDistribution([16, 32])),
        ("choice(same, valid)", CategoricalDistribution(["same", "valid"])),
        ("16, 32", CategoricalDistribution([16, 32])),
        ("range(2, 6)", IntDistribution(2, 5)),
        ("range(1, 10, 4)", IntDistribution(1, 9, step=4)),
        ("range(1, 9, 4)", IntDistribution(1, 5, step=4)),
        ("range(0, 0.3, 0.1)", FloatDistribution(0.0, 0.2, step=0.1)),
        ("interval(0, 0.5)", FloatDistribution(0.0, 0.5)),
        ("interval(1, 5)", FloatDistribution(1.0, 5.0)),
        ("int(interval(1, 5))", IntDistribution(1, 5)),
        ("tag(log, interval(1e-4, 1e-1))", FloatDistribution(1e-4, 1e-1, log=True)),
        ("tag(log, int(interval(8, 128)))", IntDistribution(8, 128, log=True)),
        ("int(tag(log, interval(8, 128)))", IntDistribution(8, 128, log=True)),
    ],
)
def test_grammar_becomes_distribution(grammar, distribution):
    assert parse("model.kernel_size", grammar).distribution == distribution


def test_lists_are_single_choices_and_come_back_as_lists():
    parameter = parse("model.filters", "choice([32, 64], [16], ['a'])")
    assert parameter.distribution == CategoricalDistribution(["[32, 64]", "[16]", '["a"]'])
    assert [parameter.value(stored) for stored in parameter.ends()] == [[32, 64], [16], ["a"]]


@pytest.mark.parametrize(
    ("grammar", "complaint"),
    [
        ("0.01", "single value"),
        ("interval(", "no viable alternative"),
        ("interval(3, 1)", "low <= high"),
        ("tag(log, interval(0, 1))", "log"),
        ("tag(log, range(1, 5))", "cannot be logarithmic"),
        ("tag(logarithmic, interval(1, 2))", "tag logarithmic is unknown"),
        ("choice(1, 1)", "same choice twice"),
        ("range(5, 1)", "start below its stop"),
        ("glob(*)", "single value"),
    ],
)
def test_a_text_that_is_no_search_is_refused(grammar, complaint):
    with pytest.raises(UsageError, match=r"search\.optimizer\.lr") as caught:
        parse("optimizer.lr", grammar)
    assert complaint in str(caught.value)


def test_grid_lists_what_is_finite():
    assert parse("k", "range(0, 1, 0.25)").grid() == [0.0, 0.25, 0.5, 0.75]
    assert parse("k", "range(1, 10, 4)").grid() == [1, 5, 9]
    assert parse("k", "interval(0, 1)").grid() is None
    assert parse("k", "tag(log, int(interval(1, 9)))").grid() is None


def test_nested_and_dotted_keys_are_the_same():
    space = read_space({"model.filters.0": "choice(1, 2)", "optimizer": {"lr": "interval(0.1, 0.2)"}}, BASE)
    assert list(space.grammar()) == ["model.filters.0", "optimizer.lr"]


def test_every_problem_is_reported_at_once():
    search = {
        "optimizer.lrr": "choice(1, 2)",
        "seed": "choice(1, 2)",
        "dataset.validation.fraction": "choice(0.1, 0.2)",
        "model.filters.2": "choice(1, 2)",
        "model": "choice(1, 2)",
        "batch_size": "32",
    }
    with pytest.raises(UsageError) as caught:
        read_space(search, BASE)
    lines = caught.value.problems
    assert len(lines) == 6
    assert "did you mean 'optimizer.lr'?" in lines[0]
    assert "use sweep.seeds" in lines[1]
    assert "could not be compared" in lines[2]
    assert "did you mean 'model.filters" in lines[3]
    assert "is a section" in lines[4]
    assert "single value" in lines[5]


def test_a_list_and_its_item_cannot_both_be_searched():
    with pytest.raises(UsageError, match="set the same values"):
        read_space({"model.filters": "choice([1], [2])", "model.filters.0": "choice(1, 2)"}, BASE)


def test_an_empty_search_is_refused():
    with pytest.raises(UsageError, match="search is empty"):
        read_space(None, BASE)


def test_values_reach_items_of_lists_and_interpolations():
    changed = apply(CONFIG, {"model.filters.1": 5, "dataset.batch_size": 64})
    assert OmegaConf.to_container(changed.model.filters) == [32, 5]
    assert changed.batch_size == 64
    assert CONFIG.model.filters[1] == 64


def test_corners_hold_every_end_alone_and_all_together():
    space = read_space({"model.kernel_size": "range(2, 6)", "optimizer.lr": "interval(0.1, 0.2)"}, BASE)
    assert list(space.corners()) == [
        {"model.kernel_size": 2, "optimizer.lr": 0.1},
        {"model.kernel_size": 5, "optimizer.lr": 0.2},
        {"model.kernel_size": 2},
        {"model.kernel_size": 5},
        {"optimizer.lr": 0.1},
        {"optimizer.lr": 0.2},
    ]
