"""How the values and the parameters of a study lie on an axis, and the marks that stand for its trials."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from cnnlab.figures.canvas import QUIET, TRAIN, VALIDATION, cut, width_of
from cnnlab.sweeps.shown import Point, Shown, label

COLORS = "cividis"
WIDE = 50  # times the smallest value, from which on an axis is logarithmic
LONG = 6  # columns of a tick's label that stands beside others


def draw_dots(axes: Axes, shown: Shown, points: Sequence[Point], places: Sequence[float]) -> None:
    """Draw what points reached: complete ones filled, pruned ones hollow, the best as a star."""
    for pruned, face, edge in ((True, "white", QUIET), (False, TRAIN, TRAIN)):
        there = [(place, point.value) for place, point in zip(places, points, strict=True) if point.pruned is pruned]
        if there:
            axes.plot(*zip(*there, strict=True), "o", ms=6, mfc=face, mec=edge, alpha=0.85, label=_word(pruned))
    for place, point in zip(places, points, strict=True):
        if point.number == shown.best:
            said = f"best: trial {point.number}, {label(point.value)}"
            axes.plot([place], [point.value], "*", ms=14, mfc=VALIDATION, mec="black", mew=0.8, zorder=5, label=said)


def kinds_of_dots(shown: Shown) -> list[Line2D]:
    """Return what a legend shows of the marks of `draw_dots`."""
    handles = [Line2D([], [], ls="", marker="o", mfc=TRAIN, mec=TRAIN, label=_word(False))]
    if shown.complete < len(shown.points):
        handles.append(Line2D([], [], ls="", marker="o", mfc="white", mec=QUIET, label=_word(True)))
    star = Line2D([], [], ls="", marker="*", ms=12, mfc=VALIDATION, mec="black", label=f"trial {shown.best}, the best")
    return handles if shown.best is None else [*handles, star]


def value_axis(axes: Axes, metric: str, values: Sequence[float]) -> None:
    """Name the upright axis after the metric; where its values lie far apart it is logarithmic."""
    if is_wide(values):
        logarithmic(axes, "y", values)
    axes.set_ylabel(metric)
    axes.grid(alpha=0.25)


def parameter_axis(
    axes: Axes, shown: Shown, name: str, points: Sequence[Point], which: Literal["x", "y"] = "x"
) -> list[float]:
    """Prepare an axis for a parameter and return where on it the points stand; choices stand side by side."""
    distribution = shown.distributions[name]
    axis = axes.xaxis if which == "x" else axes.yaxis
    values = [point.parameters[name] for point in points]
    if isinstance(distribution, CategoricalDistribution):
        choices = choices_of(shown, name)
        slanted = which == "x" and (len(choices) > 4 or max(map(width_of, choices)) > LONG)
        axis.set_ticks(range(len(choices)), [cut(choice, 16) for choice in choices], fontsize=8)
        for text in axis.get_ticklabels() if slanted else ():
            text.set(rotation=30, ha="right", rotation_mode="anchor")
        (axes.set_xlim if which == "x" else axes.set_ylim)(-0.6, len(choices) - 0.4)
        return [float(choices.index(str(value))) for value in values]
    places = [float(str(value)) for value in values]
    if is_logarithmic(shown, name):
        logarithmic(axes, which, places)
    elif isinstance(distribution, IntDistribution):
        axis.set_major_locator(MaxNLocator(5, integer=True))
    else:
        axis.set_major_locator(MaxNLocator(5))
    axis.set_tick_params(labelsize=8)
    return places


def logarithmic(axes: Axes, which: Literal["x", "y"], values: Sequence[float]) -> None:
    """Make an axis of these values logarithmic, with plain numbers: powers are formulas, which are not drawn here."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    low, high = min(values), max(values)
    axis.set_major_locator(LogLocator(subs=(1.0,) if high > 50 * low else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def scale_of(shown: Shown, name: str) -> Callable[[object], float]:
    """Return how high a value of a parameter lies, from 0 to 1; NaN for one that a trial does not have."""
    if isinstance(shown.distributions[name], CategoricalDistribution):
        choices = choices_of(shown, name)
        return lambda value: choices.index(str(value)) / max(1, len(choices) - 1) if value is not None else math.nan
    low, high = ends_of(shown, name)
    moved = math.log if is_logarithmic(shown, name) else float
    span = (moved(high) - moved(low)) or 1.0
    return lambda value: (moved(float(str(value))) - moved(low)) / span if value is not None else math.nan


def marks_of(shown: Shown, name: str) -> list[tuple[float, str]]:
    """Return heights from 0 to 1 of a parameter's axis with the values that lie there: all choices, or both ends."""
    is_choice = isinstance(shown.distributions[name], CategoricalDistribution)
    values: Sequence[object] = choices_of(shown, name) if is_choice else ends_of(shown, name)
    height = scale_of(shown, name)
    return [(height(value), cut(label(value), 14)) for value in values]


def choices_of(shown: Shown, name: str) -> list[str]:
    """Return the choices of a parameter that a trial took, in the order of the search."""
    distribution = shown.distributions[name]
    assert isinstance(distribution, CategoricalDistribution)
    taken = {point.parameters.get(name) for point in shown.points}
    return [str(choice) for choice in distribution.choices if choice in taken]


def ends_of(shown: Shown, name: str) -> tuple[float, float]:
    """Return the smallest and the largest value of a parameter that a trial took."""
    values = [float(str(point.parameters[name])) for point in shown.points if name in point.parameters]
    return min(values), max(values)


def is_logarithmic(shown: Shown, name: str) -> bool:
    """Return whether a parameter was searched on a logarithmic scale."""
    distribution = shown.distributions[name]
    return isinstance(distribution, FloatDistribution | IntDistribution) and distribution.log


def is_wide(values: Sequence[float]) -> bool:
    """Return whether values lie so far apart that a linear axis would show the largest alone."""
    known = [value for value in values if math.isfinite(value)]
    return bool(known) and min(known) > 0 and max(known) > WIDE * min(known)


def colors_of(shown: Shown) -> tuple[ScalarMappable, dict[int, tuple[float, ...]]]:
    """Return the colours of what the points reached, the best light, and that of each trial by its number."""
    values = [point.value for point in shown.points]
    colors = ScalarMappable(Normalize(min(values), max(values)), COLORS if shown.upward else f"{COLORS}_r")
    each = colors.to_rgba(np.array(values))
    return colors, {point.number: tuple(color) for point, color in zip(shown.points, each.tolist(), strict=True)}


def _word(pruned: bool) -> str:
    return "pruned, at its last report" if pruned else "complete"
