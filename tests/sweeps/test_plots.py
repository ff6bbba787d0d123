"""The plots of a sweep say how many trials they show."""

from __future__ import annotations

from types import ModuleType

import optuna
from matplotlib.figure import Figure
from PIL import Image

from cnnlab.sweeps import plots
from cnnlab.sweeps.goals import Goals

ONE = Goals(("val/loss",))


def study(trials: int, pruned: int = 0) -> optuna.Study:
    """Return a study of two parameters, and of one that is always the same."""
    made = optuna.create_study(study_name="demo", sampler=optuna.samplers.RandomSampler(seed=1))

    def objective(trial: optuna.Trial) -> float:
        value = trial.suggest_float("optimizer.lr", 0, 1) + trial.suggest_float("dropout", 0, 0.8)
        trial.suggest_categorical("batch_size", [32])
        trial.report(value, 1)
        if trial.number >= trials:
            raise optuna.TrialPruned
        return value

    made.optimize(objective, n_trials=trials + pruned)
    return made


def test_every_picture_of_few_trials_and_their_page_say_so(tmp_path, monkeypatch):
    seen = []
    write = Figure.text

    def text(figure: Figure, x: float, y: float, words: str, **options: object) -> object:
        seen.append(words)
        return write(figure, x, y, words, **options)

    monkeypatch.setattr(Figure, "text", text)
    assert plots.draw(study(4), ONE, tmp_path) == []
    line = "n = 4 complete trials: fewer than 10, differences may be chance"
    assert seen.count(line) == len(list(tmp_path.glob("*.png"))) - 1 == 5
    assert "The importance of parameters takes 10 complete trials; this study has 4." in seen
    assert Image.open(tmp_path / "importances.png").size == (1100, 200)
    page = (tmp_path / "plots.html").read_text(encoding="utf-8")
    assert page.count(f"<p>{line}</p>") == 5 and "Hyperparameter Importances" not in page


def test_ten_trials_have_importances_and_nine_have_not():
    for trials, expected in ((9, False), (10, True)):
        names = [name for name, _ in plots.plots(study(trials), ONE, ModuleType("pictures"))]
        assert ("importances" in names) is expected


def test_pruned_trials_are_counted_apart():
    assert plots.footnote(study(10, pruned=2)) == "n = 10 complete trials, 2 pruned"


def test_a_parameter_that_never_changed_has_no_panel():
    assert set(plots.important(study(4), {})) == {"optimizer.lr", "dropout"}
