"""Optuna's plots of a study, as pictures and as one interactive page."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import matplotlib
import optuna
from optuna.trial import TrialState

from cnnlab.errors import one_line
from cnnlab.sweeps.goals import Goals

Target = dict[str, Callable[[optuna.trial.FrozenTrial], float]]
MOST = 4  # parameters in a contour plot: its panels grow with their square
ENOUGH = 10  # complete trials below which an importance is chance


def draw(study: optuna.Study, goals: Goals, folder: Path) -> list[str]:
    """Write NAME.png and plots.html into `folder`; return one line for each plot that could not be drawn."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    if complete(study) < 2:
        return [f"plots need two complete trials, the study has {complete(study)}"]
    import optuna.visualization.matplotlib as pictures

    notes = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if complete(study) < ENOUGH:
            _draw_refusal(folder / "importances.png", study)
        for name, plot in plots(study, goals, pictures):
            try:
                plot()
                figure = pyplot.gcf()
                figure.set_size_inches(*(14, 12) if name == "contour" else (11, 6))
                figure.text(0.01, -0.02, footnote(study), fontsize=11, va="top")
                pyplot.savefig(folder / f"{name}.png", dpi=100, bbox_inches="tight")
            except (ValueError, RuntimeError, ImportError) as error:
                notes.append(f"plot {name} could not be drawn: {one_line(error)}")
            finally:
                pyplot.close("all")
        notes += _page(study, goals, folder / "plots.html")
    return notes


def plots(study: optuna.Study, goals: Goals, library: ModuleType) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield name and drawing function of every plot that suits the study; `library` is one of Optuna's two."""
    first: Target = {} if goals.single else {"target": lambda trial: trial.values[0]}
    named: dict[str, object] = {**first, "target_name": goals.metric}
    yield "history", lambda: library.plot_optimization_history(study, **named)
    if complete(study) >= ENOUGH:
        yield "importances", lambda: library.plot_param_importances(study, **named)
    yield "parallel_coordinate", lambda: library.plot_parallel_coordinate(study, **named)
    yield "slice", lambda: library.plot_slice(study, **named)
    if len(names := important(study, first)) > 1:
        yield "contour", lambda: library.plot_contour(study, params=names, **named)
    if goals.single:
        yield "intermediate_values", lambda: library.plot_intermediate_values(study)
    else:
        yield "pareto_front", lambda: library.plot_pareto_front(study, target_names=list(goals.names))


def important(study: optuna.Study, target: Target) -> list[str]:
    """Return the parameters that matter most, as far as that can be told, at most as many as a contour plot holds."""
    seen: dict[str, set[object]] = {}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        for name, value in trial.params.items():
            seen.setdefault(name, set()).add(value)
    names = [name for name, values in seen.items() if len(values) > 1]  # a single value draws an empty panel
    if complete(study) >= ENOUGH:
        with suppress(ValueError, RuntimeError):  # all values the same
            names = list(optuna.importance.get_param_importances(study, target=target.get("target")))
    return names[:MOST]


def complete(study: optuna.Study) -> int:
    """Return how many trials ran to their end."""
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


def footnote(study: optuna.Study) -> str:
    """Return the line below every plot: how many trials it shows, and whether they are few."""
    count, pruned = complete(study), len(study.get_trials(deepcopy=False, states=(TrialState.PRUNED,)))
    line = f"n = {count} complete trials" + (f", {pruned} pruned" if pruned else "")
    return line if count >= ENOUGH else f"{line}: fewer than {ENOUGH}, differences may be chance"


def _draw_refusal(file: Path, study: optuna.Study) -> None:
    """Write a picture that says why there are no importances; one of an earlier look may lie there."""
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(11, 2))
    text = f"The importance of parameters takes {ENOUGH} complete trials; this study has {complete(study)}."
    figure.text(0.5, 0.5, text, fontsize=13, ha="center", va="center")
    figure.savefig(file, dpi=100)
    pyplot.close(figure)


def _page(study: optuna.Study, goals: Goals, file: Path) -> list[str]:
    """Write all plots as one page that needs no network: the script is in it, once."""
    if importlib.util.find_spec("plotly") is None:
        return ["plots.html needs plotly: pip install 'cnnlab[sweep]'"]
    import optuna.visualization as interactive
    from plotly.io import to_html

    parts: list[str] = []
    notes = []
    for name, plot in plots(study, goals, interactive):
        try:
            parts.append(to_html(plot(), full_html=False, include_plotlyjs=not parts))
            parts.append(f"<p>{footnote(study)}</p>")
        except (ValueError, RuntimeError, ImportError) as error:
            notes.append(f"plot {name} of plots.html could not be drawn: {one_line(error)}")
    title = f"<title>{study.study_name}</title>"
    file.write_text(f"<!doctype html><meta charset='utf-8'>{title}\n" + "\n".join(parts), encoding="utf-8")
    return notes
