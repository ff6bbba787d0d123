"""What optuna-dashboard shows of a study."""

from __future__ import annotations

import optuna
import pytest

from cnnlab.sweeps.dashboard import describe, link_trials, name_goals
from cnnlab.sweeps.goals import Goals
from cnnlab.sweeps.storage import RUN

get_note = pytest.importorskip("optuna_dashboard").get_note
note_of = pytest.importorskip("optuna_dashboard._note").get_note_from_system_attrs
ONE = Goals(("val/acc",))
LINKS, COMMANDS = {"The sweep in MLflow": "http://127.0.0.1:5000/#/x"}, {"go on": "python sweep.py search=mlp"}


@pytest.fixture
def study() -> optuna.Study:
    made = optuna.create_study(study_name="demo", direction="maximize")

    def objective(trial: optuna.Trial) -> float:
        if trial.number:
            trial.set_user_attr(RUN, f"run{trial.number}")
        return trial.suggest_float("optimizer.lr", 0, 1)

    made.optimize(objective, n_trials=3)
    return made


def test_the_axes_have_the_goals_names(study):
    name_goals(study, ONE.names)
    assert study.metric_names == ["val/acc"]


def test_the_note_has_the_best_links_and_commands_and_is_written_anew(study):
    describe(study, ONE, LINKS, {})
    assert get_note(study).count("\n") > 3
    describe(study, ONE, LINKS, COMMANDS | {"long": "x" * 3000})
    describe(study, ONE, LINKS, COMMANDS)
    note = get_note(study)
    assert note.startswith(f"**Best: trial {study.best_trial.number}, val/acc {study.best_value:.4g}**")
    assert "| optimizer.lr |" in note and "[The sweep in MLflow](http://127.0.0.1:5000/#/x)" in note
    assert note.endswith("- go on: `python sweep.py search=mlp`")


def test_a_note_that_somebody_edited_stays(study):
    from optuna_dashboard import save_note

    describe(study, ONE, LINKS, COMMANDS)
    save_note(study, "mine")
    describe(study, ONE, LINKS, COMMANDS)
    assert get_note(study) == "mine"


def test_each_trial_leads_to_its_run(study):
    link_trials(study, lambda run_id: f"http://127.0.0.1:5000/#/{run_id}")
    attributes = study._storage.get_study_system_attrs(study._study_id)
    notes = [note_of(attributes, trial._trial_id)["body"] for trial in study.trials]
    assert notes == ["", *(f"[Its run in MLflow](http://127.0.0.1:5000/#/run{number})" for number in (1, 2))]
