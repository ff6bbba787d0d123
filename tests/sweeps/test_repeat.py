"""What is written down to repeat a training says exactly what was trained."""

from __future__ import annotations

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from cnnlab.sweeps.repeat import repeating, training_overrides, written

AWKWARD = [
    "",
    " x ",
    "null",
    "True",
    "nan",
    "1e-3",
    "a b",
    "it's",
    'say "so"',
    "a,b",
    "[1]",
    "a=b",
    "é",
    "c:\\d",
    "\\'",
    "\\",
]
VALUES = [
    0,
    -3,
    1e-05,
    0.1 + 0.2,
    5e-324,
    1e22,
    True,
    None,
    "adam",
    "32-true",
    [1, [2.5, None]],
    {"a": [1, "x y"]},
    *AWKWARD,
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_hydra_reads_back_what_was_written(value):
    read = OverridesParser.create().parse_override(f"key={written(value)}").value()
    assert OmegaConf.to_container(OmegaConf.create({"value": read}))["value"] == value
    assert type(read) is not float or repr(read) == repr(value)


def test_what_train_does_not_take_is_left_out():
    given = ["model=dnn", "search=mlp", "+search.batch_size=choice(8)", "sweep.n_trials=3", "sampler@x=tpe", "~pruner"]
    given += [
        "hydra/job_logging=none",
        "hydra.run.dir=x",
        "seed=3",
        "dataset.validation.seed=4",
        "~callbacks",
        "+a.b=1",
    ]
    assert training_overrides(given) == ("model=dnn", "dataset.validation.seed=4", "~callbacks", "+a.b=1")


def test_an_item_of_a_list_becomes_the_whole_list_and_shells_take_the_line():
    config = OmegaConf.create({"model": {"filters": [8, 16], "padding": "same"}, "optimizer": {"lr": 0.1 + 0.2}})
    chosen = ["model.filters.0", "model.filters.1", "optimizer.lr"]
    line = repeating(["tracking.run_name='my run'"], config, chosen, 7)
    assert shlex.split(line) == [
        "tracking.run_name='my run'",
        "model.filters=[8,16]",
        "optimizer.lr=0.30000000000000004",
        "seed=7",
    ]
