"""The names that writers and readers of the store share."""

from __future__ import annotations

import pytest

from cnnlab.tracking.schema import Metric, Role, Tag, is_result


@pytest.mark.parametrize("names", [Tag, Metric, Role])
def test_no_name_stands_for_two_things(names):
    assert len(names.__members__) == len({member.value for member in names})


@pytest.mark.parametrize(
    ("tags", "result"),
    [
        ({}, True),
        ({Tag.ROLE: Role.WINNER, Tag.PARENT: "x"}, True),
        ({Tag.ROLE: Role.TRIAL, Tag.PARENT: "x"}, False),
        ({Tag.ROLE: Role.SWEEP}, False),
        ({Tag.PARENT: "x"}, False),  # a trial as older versions left it
    ],
)
def test_results_are_runs_and_winners(tags, result):
    assert is_result({str(key): str(value) for key, value in tags.items()}) is result
