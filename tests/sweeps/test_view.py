"""What the screen says about a study."""

from __future__ import annotations

import io
from datetime import datetime, timedelta

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState
from rich.console import Console

from cnnlab.sweeps.goals import Goals
from cnnlab.sweeps.view import View, duration, mean_and_spread, tally

START = datetime(2026, 1, 1)


def made(state: TrialState, value: float | None = None, **details) -> optuna.trial.FrozenTrial:
    trial = optuna.create_trial(
        state=state, value=value, params={"lr": 0.123456}, distributions={"lr": FloatDistribution(0, 1)}, **details
    )
    if state.is_finished():
        trial.datetime_complete = START + timedelta(seconds=1)
    return trial


def study_of(*trials: optuna.trial.FrozenTrial) -> list[optuna.trial.FrozenTrial]:
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    return study.get_trials()


TRIALS = (
    made(TrialState.COMPLETE, 0.91),
    made(TrialState.PRUNED, 0.5),
    made(TrialState.FAIL, user_attrs={"reason": "Diverged: train/loss is nan in epoch 1"}),
    made(TrialState.COMPLETE, 0.97, user_attrs={"duplicate_of": 0}),
    made(TrialState.FAIL),
    made(TrialState.WAITING, system_attrs={"retry_history": [4]}),
)


def test_a_trial_queued_again_is_counted_once():
    counts = tally(study_of(*TRIALS))
    assert counts == {"complete": 2, "pruned": 1, "failed": 1, "waiting": 1, "ended": 4}


def test_each_finished_trial_is_one_line(capsys):
    view = View("study", Goals(("val/acc",)), 6, [])
    with view:
        assert view.update(study_of(*TRIALS[:1]))
        assert view.update(study_of(*TRIALS))
        assert not view.update(study_of(*TRIALS))
    assert capsys.readouterr().out.splitlines() == [
        "trial 0 complete  val/acc 0.91  lr=0.1235  [1/6]",
        "trial 1 pruned  val/acc 0.5  lr=0.1235  [2/6]",
        "trial 2 failed: Diverged: train/loss is nan in epoch 1  lr=0.1235  [3/6]",
        "trial 3 complete  val/acc 0.97  (same parameters as trial 0, not trained again)  lr=0.1235  [4/6]",
    ]


@pytest.mark.parametrize("metric", ["val/acc", "test/acc"])
def test_the_table_shows_counts_and_the_best(metric):
    screen = Console(width=100, record=True, file=io.StringIO())
    screen.print(View("study", Goals((metric,)), 6, []).table(study_of(*TRIALS)))
    text = screen.export_text()
    assert "2 complete, 0 running, 1 pruned, 1 failed" in text
    assert f"{metric} 0.97, trial 3" in text
    assert "not known yet" in text


def test_the_rest_takes_as_long_a_trial_as_before(monkeypatch):
    view = View("study", Goals(("val/acc",)), 10, study_of(TRIALS[0]))
    monkeypatch.setattr("time.monotonic", lambda: view.started + 60.0)
    view.done = 4  # three in a minute, six to go
    assert view.left() == "about 2 min"


@pytest.mark.parametrize(("seconds", "text"), [(5, "about 5 s"), (300, "about 5 min"), (7200, "about 2.0 h")])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_mean_and_spread():
    assert mean_and_spread([0.5, 0.7]) == "0.6000 ± 0.1414 (n=2)"
    assert mean_and_spread([0.5]) == "0.5000 (n=1)"
