"""The plots of a study, as pictures and as one interactive page."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import optuna
from optuna.trial import TrialState

from cnnlab.errors import one_line
from cnnlab.figures.canvas import lettering
from cnnlab.sweeps import pictures
from cnnlab.sweeps.goals import Goals
from cnnlab.sweeps.page import write_page
from cnnlab.sweeps.shown import MOST, Shown, shown

IMPORTANCES_FILE = "importances.csv"


def draw(study: optuna.Study, goals: Goals, folder: Path, commands: Mapping[str, str] | None = None) -> list[str]:
    """Write NAME.png, importances.csv and plots.html into `folder`; return a line for each plot that was not drawn.

    `commands` are shown on the page, by what they do.
    """
    folder.mkdir(parents=True, exist_ok=True)
    seen = shown(study, goals)
    if len(seen.points) < 2:
        return [f"plots need two trials that reached something, the study has {len(seen.points)}"]
    notes = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importances = seen.importances()
        write_importances(folder / IMPORTANCES_FILE, seen, importances)
        texts = [seen.name, seen.metric, *seen.distributions]
        with lettering(texts, f"sweep {seen.name}: {seen.footnote()}"):
            for name, plot in plots(study, goals, seen, importances):
                try:
                    plot(folder / f"{name}.png")
                except (ValueError, RuntimeError) as error:
                    notes.append(f"plot {name} could not be drawn: {one_line(error)}")
        notes += write_page(folder / "plots.html", study, goals, seen, importances, commands or {})
    return notes


def plots(
    study: optuna.Study, goals: Goals, seen: Shown, importances: Mapping[str, float]
) -> Iterator[tuple[str, Callable[[Path], object]]]:
    """Yield name and drawing function of every picture that suits the study."""
    yield "history", lambda path: pictures.draw_history(path, seen)
    yield "importances", lambda path: pictures.draw_importances(path, seen, importances)
    if seen.varied:
        yield "parallel_coordinate", lambda path: pictures.draw_parallel(path, seen)
        yield "slice", lambda path: pictures.draw_slices(path, seen)
    if len(names := important(seen, importances)) > 1:
        yield "pairs", lambda path: pictures.draw_pairs(path, seen, names)
    if goals.single:
        if any(point.reports for point in seen.points):
            yield "intermediate_values", lambda path: pictures.draw_reports(path, seen)
    else:
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        best = {trial.number for trial in study.best_trials}
        front = {place for place, trial in enumerate(trials) if trial.number in best}
        reached = [trial.values for trial in trials]
        yield "pareto_front", lambda path: pictures.draw_front(path, seen.name, goals.names, reached, front)


def important(seen: Shown, importances: Mapping[str, float]) -> list[str]:
    """Return the parameters that matter most, as far as that can be told, at most as many as are drawn in pairs."""
    varied = seen.varied
    return [name for name in (importances or varied) if name in varied][:MOST]


def write_importances(file: Path, seen: Shown, importances: Mapping[str, float]) -> None:
    """Write a row a parameter, the most important first, each with the number of trials that tell so."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["parameter", "importance", "trials"])
        table.writerows([name, f"{value:.4f}", len(seen.points)] for name, value in importances.items())
