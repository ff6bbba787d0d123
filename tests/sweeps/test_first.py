"""What a sweep is told before it begins: what to try first, what costs too much, and groups to choose options of."""

from __future__ import annotations

import pytest

from cnnlab.job import compose_job
from cnnlab.sweeps.first import queue_first
from cnnlab.sweeps.order import read_order
from cnnlab.sweeps.study import open_study
from sweep_commands import order, problems

SPACE = ["search=none", '+search.model.hidden_units.0="choice(8, 64)"', '+search.optimizer.lr="interval(0.001, 0.1)"']
OPTIMIZERS = ['+search.optimizer.name="choice(adam, sgd)"', '+search.optimizer.momentum="interval(0.5, 0.9)"']


def test_a_known_configuration_has_the_commands_values_where_it_names_none(tmp_path):
    made = order(
        tmp_path, *SPACE, "optimizer.lr=0.02", "sweep.first=[{model.hidden_units.0:8},{},{optimizer:{lr:1e-1}}]"
    )
    assert list(made.first) == [
        {"model.hidden_units.0": 8, "optimizer.lr": 0.02},
        {"model.hidden_units.0": 64, "optimizer.lr": 0.02},
        {"model.hidden_units.0": 64, "optimizer.lr": 0.1},
    ]
    outside = order(tmp_path, *SPACE, "optimizer.lr=0.5", "sweep.first=[{}]")
    assert list(outside.first) == [{"model.hidden_units.0": 64}]  # the sampler chooses the learning rate


def test_known_configurations_that_the_search_does_not_have_are_refused_together(tmp_path):
    given = "sweep.first=[{optimizer.rl:0.1},{optimizer.lr:1},{model.hidden_units.0:9},{model.hidden_units.0:[8]}]"
    lines = problems(tmp_path, *SPACE, given)
    assert [line.split(";")[0] for line in lines] == [
        "sweep.first[0] key='optimizer.rl' is unknown",
        "sweep.first[1]: optimizer.lr=1 is not in the search",
        "sweep.first[2]: model.hidden_units.0=9 is not in the search",
        "sweep.first[3]: model.hidden_units.0=[8] is not in the search",
    ]
    assert "did you mean 'optimizer.lr'?" in lines[0] and "allowed: interval(0.001, 0.1)" in lines[1]
    (line,) = problems(tmp_path, *SPACE, "sweep.first=5")
    assert line.startswith("sweep.first=5 is not allowed; sweep.first takes a list such as")


def test_known_configurations_are_queued_once(tmp_path):
    made = order(
        tmp_path, *SPACE, "sweep.first=[{},{},{optimizer.lr:0.05}]", f"sweep.storage=sqlite:///{tmp_path}/s.db"
    )
    study, _ = open_study(made.settings, "s", made.goals.directions)
    queue_first(study, made.first)
    queue_first(study, made.first)
    assert [trial.system_attrs["fixed_params"]["optimizer.lr"] for trial in study.get_trials()] == [0.001, 0.05]


def test_an_option_of_a_group_brings_its_own_keys(tmp_path):
    made = order(tmp_path, *SPACE, *OPTIMIZERS, "sweep.first=[{optimizer:sgd,optimizer.momentum:0.5},{}]")
    conditions = {parameter.key: parameter.condition for parameter in made.space}
    assert conditions["optimizer.momentum"] == "for optimizer=sgd"
    assert not conditions["optimizer.lr"] and not conditions["optimizer"]
    assert [(first["optimizer"], first.get("optimizer.momentum")) for first in made.first] == [
        ("sgd", 0.5),
        ("adam", None),
    ]
    sgd = made.configurations.having({"optimizer": "sgd", "optimizer.momentum": 0.7})
    assert (sgd.optimizer.name, sgd.optimizer.momentum, sgd.optimizer.nesterov) == ("sgd", 0.7, False)
    corners = list(made.space.corners())
    assert {corner["optimizer"] for corner in corners} == {"adam", "sgd"}
    assert not [corner for corner in corners if corner["optimizer"] == "adam" and "optimizer.momentum" in corner]


def test_a_file_names_a_group_by_itself(tmp_path):
    (tmp_path / "own" / "search").mkdir(parents=True)
    lines = "regularization: choice(none, dropout)\nregularization.conv_dropout: interval(0.1, 0.5)\n"
    (tmp_path / "own" / "search" / "mine.yaml").write_text(lines)
    made = read_order(compose_job("sweep", ["sweep.name=s", "search=mine"], tmp_path / "own", tmp_path))
    assert list(made.space.grammar()) == ["regularization", "regularization.conv_dropout"]


@pytest.mark.parametrize(
    ("search", "line"),
    [
        ('+search.optimizer.name="choice(adam, sdg)"', "optimizer='sdg' is unknown; allowed: "),
        ('+search.optimizer.name="interval(0, 1)"', "search.optimizer='interval(0, 1)' is not a choice of options"),
        ('+search.optimizer.momentum="interval(0, 1)"', "search key='optimizer.momentum' is unknown"),
        ('+search.trainer.name="choice(a, b)"', "search key='trainer.name' is unknown"),
    ],
)
def test_options_that_are_not_there_are_refused(tmp_path, search, line):
    assert any(line in found for found in problems(tmp_path, "search=none", search))


def test_a_key_that_an_option_lacks_is_not_among_its_known_configurations(tmp_path):
    lines = problems(tmp_path, *SPACE, *OPTIMIZERS, "sweep.first=[{optimizer:adam,optimizer.momentum:0.9}]")
    assert lines == ["sweep.first[0]: optimizer.momentum is searched for optimizer=sgd alone"]


def test_seeds_too_few_to_compare_by_are_refused(tmp_path):
    (line,) = problems(tmp_path, "pruner=wilcoxon", "sweep.seeds=4")
    assert "after 4 seeds at the earliest; sweep.seeds=4 is not allowed, it takes 5 or more" in line
    assert order(tmp_path, "pruner=wilcoxon", "sweep.seeds=4", "pruner.p_threshold=0.2")


def test_costs_that_are_no_numbers_are_refused(tmp_path):
    lines = problems(tmp_path, "sweep.constraints.parameters=0", "sweep.constraints.latency=-1", "sweep.minutes=0")
    assert len(lines) == 3
    assert order(tmp_path).definition() != order(tmp_path, "sweep.constraints.parameters=9000").definition()
