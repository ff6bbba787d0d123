"""The interactive page of a study: what it found, and its plots, in one file that needs no network."""

from __future__ import annotations

import html
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.distributions import CategoricalDistribution

from cnnlab.errors import one_line
from cnnlab.figures.canvas import QUIET, TRAIN, VALIDATION
from cnnlab.sweeps.axes import is_logarithmic
from cnnlab.sweeps.goals import Goals
from cnnlab.sweeps.shown import Point, Shown, label

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1c2530; background: #fff; margin: 0 auto; max-width: 1100px;
  padding: 1rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin: 1.5rem 0 .25rem; }
code { background: #f0f2f5; padding: .1em .3em; overflow-wrap: anywhere; }
pre { background: #f0f2f5; padding: .6em; white-space: pre-wrap; overflow-wrap: anywhere; }
table { font-size: .9rem; }
th, td { text-align: left; padding: .15em .8em .15em 0; overflow-wrap: anywhere; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(340px, 100%), 1fr)); gap: .5rem; }
.panels > div, section > div { min-width: 0; }
.wide { overflow-x: auto; } .note { color: #5b6774; }
"""
LOW = 320  # pixels of height


def write_page(
    file: Path,
    study: optuna.Study,
    goals: Goals,
    shown: Shown,
    importances: Mapping[str, float],
    commands: Mapping[str, str],
) -> list[str]:
    """Write the page; return a line for each plot that could not be drawn."""
    if importlib.util.find_spec("plotly") is None:
        return ["plots.html needs plotly: pip install 'cnnlab[sweep]'"]
    from plotly.io import to_html

    parts, notes = [], []
    for title, kind, figures in sections(study, goals, shown, importances):
        try:
            drawn = [
                to_html(
                    figure, full_html=False, include_plotlyjs=False, config={"responsive": True, "displaylogo": False}
                )
                for figure in figures()
            ]
        except (ValueError, RuntimeError, ImportError) as error:
            notes.append(f"plot {title!r} of plots.html could not be drawn: {one_line(error)}")
            continue
        parts.append(f'<section><h2>{title}</h2><div class="{kind}">{"".join(drawn)}</div></section>')
    if shown.few:
        parts.insert(0, f'<p class="note">The importance of parameters takes 10 trials; there are {len(shown.points)}.')
    file.write_text("\n".join([*_head(shown, study, goals, commands), *parts, "</body></html>"]), encoding="utf-8")
    return notes


def _head(shown: Shown, study: optuna.Study, goals: Goals, commands: Mapping[str, str]) -> Iterator[str]:
    """Yield what stands above the plots: the best trial with its parameters, and how to go on."""
    from plotly.offline import get_plotlyjs

    name = html.escape(shown.name)
    yield f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<style>{STYLE}</style><script>{get_plotlyjs()}</script></head><body>"
    yield f"<h1>Sweep {name}</h1>"
    best = next((point for point in shown.points if point.number == shown.best), None)
    if best is not None:
        trial = study.get_trials(deepcopy=False)[best.number]
        reached = ", ".join(f"{goal} {label(value)}" for goal, value in zip(goals.names, trial.values, strict=True))
        early = ", pruned before its end" if best.pruned else ""
        yield f"<p>Best: trial {best.number}{early}, <strong>{html.escape(reached)}</strong></p><table>"
        for key, value in best.parameters.items():
            yield f'<tr><th scope="row">{html.escape(key)}<td><code>{html.escape(label(value))}</code>'
        yield "</table>"
    yield f'<p class="note">{html.escape(shown.footnote())}</p>'
    for what, command in commands.items():
        yield f"<p>{html.escape(what)}:</p><pre>{html.escape(command)}</pre>"


def sections(
    study: optuna.Study, goals: Goals, shown: Shown, importances: Mapping[str, float]
) -> Iterator[tuple[str, str, Callable[[], list[Figure]]]]:
    """Yield title, how wide, and the figures of each part of the page."""
    import optuna.visualization as library

    whole = shown.study()
    metric = html.escape(shown.metric)
    yield f"{metric} of each trial", "", lambda: [_history(shown)]
    if importances:
        yield "Importance of the parameters", "", lambda: [_bars(importances)]
    names = shown.varied
    if names:
        yield (
            f"{metric} over each parameter",
            "panels",
            lambda: [_slice(shown, name) for name in names],
        )
        yield (
            f"Each trial through its parameters to {metric}",
            "wide",
            lambda: [_parallel(library.plot_parallel_coordinate(whole, params=names, target_name=shown.metric), names)],
        )
    if goals.single:
        if any(point.reports for point in shown.points):
            yield f"{metric} on the way", "", lambda: [_reports(shown)]
    else:
        yield (
            " against ".join(map(html.escape, goals.names)),
            "",
            lambda: [_plain(library.plot_pareto_front(study, target_names=list(goals.names)), 420)],
        )


def _plain(figure: Figure, height: int = LOW, width: int | None = None) -> Figure:
    """Give a figure our looks: a white ground, no title (the page has one), a legend below, room for labels."""
    figure.update_layout(
        template="simple_white",
        title=None,
        height=height,
        width=width,
        margin={"l": 10, "r": 10, "t": 30, "b": 10},
        legend={"orientation": "h", "y": -0.25, "x": 0},
        font={"size": 13},
    )
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(automargin=True)
    return figure


def _history(shown: Shown) -> Figure:
    figure = _dots(shown, shown.points, [point.number for point in shown.points])
    figure.update_xaxes(title="trial")
    return _plain(figure, 360)


def _slice(shown: Shown, name: str) -> Figure:
    points = [point for point in shown.points if name in point.parameters]
    figure = _dots(shown, points, [point.parameters[name] for point in points])
    choices = isinstance(shown.distributions[name], CategoricalDistribution)
    kind = "category" if choices else "log" if is_logarithmic(shown, name) else "linear"
    figure.update_xaxes(title=name, type=kind, nticks=5, exponentformat="none")
    figure.update_layout(showlegend=False)
    return _plain(figure, 280)


def _dots(shown: Shown, points: Sequence[Point], places: Sequence[object]) -> Figure:
    """Return what points reached over their places: complete ones filled, pruned ones hollow, the best as a star."""
    from plotly import graph_objects

    figure = graph_objects.Figure()
    star = {"color": VALIDATION, "symbol": "star", "size": 15, "line": {"width": 1, "color": "black"}}
    kinds = {
        "complete": ({"color": TRAIN, "size": 9}, lambda point: not point.pruned),
        "pruned": ({"color": QUIET, "symbol": "circle-open", "size": 9}, lambda point: point.pruned),
        "best": (star, lambda point: point.number == shown.best),
    }
    for word, (mark, belongs) in kinds.items():
        there = [(place, point) for place, point in zip(places, points, strict=True) if belongs(point)]
        figure.add_scatter(
            x=[place for place, _ in there],
            y=[point.value for _, point in there],
            mode="markers",
            name=word,
            marker=mark,
            hovertext=[_told(point) for _, point in there],
        )
    figure.update_yaxes(title=shown.metric)
    return figure


def _told(point: Point) -> str:
    lines = [f"{key}={label(value)}" for key, value in point.parameters.items()]
    return html.escape("\n".join([f"trial {point.number}", *lines])).replace("\n", "<br>")


def _parallel(figure: Figure, names: Sequence[str]) -> Figure:
    """Give Optuna's figure the whole names, which it cuts, and room for them: the page lets it be scrolled."""
    texts = list(figure.layout.xaxis.ticktext or ())  # none where no trial has all the parameters
    whole = sorted(names)
    if len(texts) == 1 + len(whole) and all(
        name.startswith(text.removesuffix("...")) for text, name in zip(texts[1:], whole, strict=True)
    ):
        figure.update_xaxes(ticktext=[texts[0], *whole])
    room = max(110, 8 * max(map(len, names)))  # pixels from axis to axis
    _plain(figure, 420, room * (len(names) + 1))
    return figure.update_layout(margin={"l": 50, "r": 50})


def _bars(importances: Mapping[str, float]) -> Figure:
    from plotly import graph_objects

    names, shares = list(importances), list(importances.values())
    said = [f"{share:.2f}" for share in shares]
    bars = graph_objects.Bar(x=shares, y=names, orientation="h", marker={"color": TRAIN}, text=said, textangle=0)
    figure = graph_objects.Figure(bars)
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(range=[0, 1])
    return _plain(figure, 110 + 30 * len(names))


def _reports(shown: Shown) -> Figure:
    from plotly import graph_objects

    figure = graph_objects.Figure()
    for point in shown.points:
        steps, best = sorted(point.reports), point.number == shown.best
        color = VALIDATION if best else QUIET if point.pruned else TRAIN
        figure.add_scatter(
            x=steps,
            y=[point.reports[step] for step in steps],
            mode="lines+markers",
            name=f"trial {point.number}",
            line={"color": color, "width": 3 if best else 1},
            showlegend=False,
        )
    figure.update_xaxes(title="epoch, or seed<br>where trials are pruned between seeds")
    figure.update_yaxes(title=shown.metric)
    return _plain(figure, 360)
