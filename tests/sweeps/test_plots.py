"""The plots of a sweep: in our own style, with pruned trials, and each says how many trials it shows."""

from __future__ import annotations

import csv

import optuna
import pytest
from PIL import Image

from cnnlab.figures import canvas
from cnnlab.sweeps import plots
from cnnlab.sweeps.goals import Goals
from cnnlab.sweeps.shown import shown

ONE = Goals(("val/loss",))


def study(trials: int, pruned: int = 0) -> optuna.Study:
    """Return a study of three parameters, one of them a list, and of one that is always the same."""
    made = optuna.create_study(study_name="demo", sampler=optuna.samplers.RandomSampler(seed=1))

    def objective(trial: optuna.Trial) -> float:
        value = trial.suggest_float("optimizer.lr", 1e-4, 1, log=True)
        value += trial.suggest_float("regularization.dense_dropout", 0, 0.8)
        trial.suggest_categorical("model.filters", ["[16, 32]", '["a", "b"]'])
        trial.suggest_categorical("batch_size", [32])
        trial.report(value + 1, 1)
        trial.report(value, 2)
        if trial.number >= trials:
            raise optuna.TrialPruned
        return value

    made.optimize(objective, n_trials=trials + pruned)
    return made


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The plots of three complete trials and five pruned ones, with the signatures under the pictures."""
    folder = tmp_path_factory.mktemp("plots")
    assert plots.draw(study(3, pruned=5), ONE, folder, {"train it again": "python train.py experiment=best"}) == []
    return folder


def test_every_picture_is_there_and_of_a_size_that_can_be_read(drawn):
    names = {"history", "importances", "parallel_coordinate", "slice", "pairs", "intermediate_values"}
    assert {path.stem for path in drawn.glob("*.png")} == names
    sizes = {path.stem: Image.open(path).size for path in drawn.glob("*.png")}
    assert all(400 < width < 1300 and height < 1300 for width, height in sizes.values()), sizes


def test_pruned_trials_are_shown_with_their_last_report_and_counted(tmp_path):
    seen = shown(study(3, pruned=5), ONE)
    assert [point.pruned for point in seen.points] == [False] * 3 + [True] * 5
    assert all(point.value == point.reports[2] for point in seen.points if point.pruned)
    line = "n = 8 trials, 5 of them pruned and shown with their last report: fewer than 10, differences may be chance"
    assert seen.footnote() == line
    assert shown(study(10), ONE).footnote() == "n = 10 trials"


def test_every_picture_says_how_many_trials_it_shows(tmp_path, monkeypatch):
    signatures = []
    monkeypatch.setattr(canvas.Figure, "savefig", lambda figure, *_, **__: signatures.append(figure.texts[-1]))
    plots.draw(study(4), ONE, tmp_path)
    assert len(signatures) == 6
    said = {text.get_text() for text in signatures}
    assert said == {"sweep demo: n = 4 trials: fewer than 10, differences may be chance"}


def test_ten_trials_have_importances_and_nine_have_not(tmp_path):
    assert shown(study(9), ONE).importances() == {}
    seen = shown(study(4, pruned=6), ONE)
    importances = seen.importances()
    assert set(importances) >= {"optimizer.lr", "regularization.dense_dropout"} and sum(
        importances.values()
    ) == pytest.approx(1)
    plots.write_importances(tmp_path / "importances.csv", seen, importances)
    with (tmp_path / "importances.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["parameter"] for row in rows] == list(importances) and {row["trials"] for row in rows} == {"10"}


def test_lists_are_labelled_as_one_writes_them():
    seen = shown(study(4), ONE)
    assert {point.parameters["model.filters"] for point in seen.points} <= {"[16,32]", "[a,b]"}


def test_a_parameter_that_never_changed_has_no_panel():
    assert set(shown(study(20), ONE).varied) == {"optimizer.lr", "regularization.dense_dropout", "model.filters"}


def test_the_page_begins_with_what_was_found(drawn):
    page = (drawn / "plots.html").read_text(encoding="utf-8")
    head = page[page.index("<body>") :]
    assert "<h1>Sweep demo</h1>" in head and "Best: trial " in head and "n = 8 trials" in head
    assert '<th scope="row">optimizer.lr' in head and "<pre>python train.py experiment=best</pre>" in head
    assert "takes 10 trials; there are 8" in head and page.count("Plotly.newPlot(") >= 6
    assert '"model.filters","optimizer.lr","regularization.dense_dropout"]' in page, "whole names, each at its axis"


def test_two_goals_have_a_front_and_a_page(tmp_path):
    made = optuna.create_study(study_name="two", directions=["maximize", "minimize"])
    goals = Goals(("val/acc", "parameters"))

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        units = trial.suggest_int("model.hidden_units.0", 8, 512, log=True)
        return 1 - 1 / units, float(units * 100)

    made.optimize(objective, n_trials=12)
    assert plots.draw(made, goals, tmp_path) == []
    assert (tmp_path / "pareto_front.png").is_file() and not (tmp_path / "intermediate_values.png").exists()
    assert "val/acc against parameters" in (tmp_path / "plots.html").read_text(encoding="utf-8")


def test_a_single_trial_draws_nothing(tmp_path):
    assert plots.draw(study(1), ONE, tmp_path) == ["plots need two trials that reached something, the study has 1"]
    assert not list(tmp_path.iterdir())
