"""The pictures of a study: what its trials reached, and what became of which parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from cnnlab.figures.canvas import QUIET, TRAIN, VALIDATION, new_figure, save, width_of
from cnnlab.sweeps.axes import (
    colors_of,
    draw_dots,
    is_wide,
    kinds_of_dots,
    logarithmic,
    marks_of,
    parameter_axis,
    scale_of,
    value_axis,
)
from cnnlab.sweeps.shown import Shown, label

COLUMNS = 3  # of panels
LINE = "#3B4754"


def draw_history(path: Path, shown: Shown) -> Path:
    """Draw what each trial reached, in their order, and the best so far."""
    figure = new_figure(8, 4.2)
    axes = figure.subplots()
    draw_dots(axes, shown, shown.points, [point.number for point in shown.points])
    reached = [point for point in shown.points if not point.pruned]
    best: list[float] = []
    for point in reached:
        better = max if shown.upward else min
        best.append(better([point.value, *best[-1:]]))
    if reached:
        numbers = [point.number for point in reached]
        axes.step(numbers, best, where="post", color=VALIDATION, lw=1.5, label="best so far", zorder=1)
    value_axis(axes, shown.metric, [point.value for point in shown.points])
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(f"{shown.name}: {shown.metric} of each trial", pad=24)
    # Above: in any corner it could hide a trial.
    axes.legend(ncols=4, columnspacing=1.2, frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1))
    return save(figure, path)


def draw_importances(path: Path, shown: Shown, importances: Mapping[str, float]) -> Path:
    """Draw the importances as bars; where there are none, say why."""
    if not importances:
        figure = new_figure(8, 1.2)
        why = f"takes 10 trials that reached something; this study has {len(shown.points)}"
        why = why if shown.few else "cannot be told: all trials reached the same"
        figure.text(0.5, 0.5, f"the importance of parameters {why}", fontsize=11, ha="center", va="center")
        return save(figure, path)
    figure = new_figure(8, 0.9 + 0.32 * len(importances))
    axes = figure.subplots()
    axes.barh(range(len(importances)), list(importances.values()), color=TRAIN, height=0.7)
    axes.set_yticks(range(len(importances)), list(importances))
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    for place, value in enumerate(importances.values()):
        axes.text(value + 0.01, place, f"{value:.2f}", va="center", fontsize=9)
    axes.set_title(f"{shown.name}: share of each parameter in the differences of {shown.metric}")
    return save(figure, path)


def draw_slices(path: Path, shown: Shown) -> Path:
    """Draw what was reached over each parameter, in a panel of its own."""
    names = shown.varied
    rows = -(-len(names) // COLUMNS)
    columns = min(COLUMNS, len(names))
    figure = new_figure(max(4.2, 3.2 * columns), 2.9 * rows)
    figure.set_layout_engine("constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    for axes, name in zip(grid.flat, names, strict=False):
        points = [point for point in shown.points if name in point.parameters]
        draw_dots(axes, shown, points, parameter_axis(axes, shown, name, points))
        axes.set_xlabel(name)
    for axes in grid[:, 0]:
        value_axis(axes, shown.metric, [point.value for point in shown.points])
    figure.suptitle(f"{shown.name}: {shown.metric} over each parameter\n ", fontsize=11)
    legend = grid[0, 0].legend(
        handles=kinds_of_dots(shown), ncols=3, frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1)
    )
    legend.set_in_layout(False)  # it is wider than its panel; the title leaves it room
    return save(figure, path)


def draw_pairs(path: Path, shown: Shown, names: Sequence[str]) -> Path:
    """Draw the trials over each pair of parameters, coloured by what they reached."""
    size = len(names) - 1
    figure = new_figure(2.7 * size + 1.2, 2.5 * size + 0.4)
    figure.set_layout_engine("constrained")
    grid = figure.subplots(size, size, squeeze=False)
    colors, own = colors_of(shown)
    for row in range(size):
        for column in range(size):
            axes, across, down = grid[row, column], names[column], names[row + 1]
            if column > row:
                axes.set_visible(False)
                continue
            points = [point for point in shown.points if {across, down} <= point.parameters.keys()]
            places = parameter_axis(axes, shown, across, points), parameter_axis(axes, shown, down, points, "y")
            for point, *place in zip(points, *places, strict=True):
                color = own[point.number]
                axes.plot(*place, "o", ms=6, color=color, mec=QUIET, mfc="white" if point.pruned else color)
                if point.pruned:
                    axes.plot(*place, "o", ms=3, color=color)
            axes.set_xlabel(across if row == size - 1 else "")
            axes.set_ylabel(down if column == 0 else "")
    figure.colorbar(colors, ax=grid, label=shown.metric, shrink=0.8)
    figure.suptitle(f"{shown.name}: {shown.metric} over pairs of parameters (small: pruned)", fontsize=11)
    return save(figure, path)


def draw_parallel(path: Path, shown: Shown) -> Path:
    """Draw each trial as a line through its parameters to what it reached; pruned ones are dotted."""
    names = shown.varied
    figure = new_figure(max(7.0, 1.6 * (len(names) + 1)), 4.4)
    axes = figure.subplots()
    (_, own), values = colors_of(shown), [point.value for point in shown.points]
    low, high = min(values), max(values)
    scales = [scale_of(shown, name) for name in names]
    ordered = sorted(shown.points, key=lambda point: (not point.pruned, point.value if shown.upward else -point.value))
    for point in ordered:  # the best are drawn last
        heights = [scale(point.parameters.get(name)) for scale, name in zip(scales, names, strict=True)]
        heights.append((point.value - low) / ((high - low) or 1))
        style = ":" if point.pruned else "-"
        axes.plot(range(len(heights)), heights, style, color=own[point.number], lw=1.4, alpha=0.8)
    for place, name in enumerate(names):
        axes.axvline(place, color=LINE, lw=0.8)
        for height, text in marks_of(shown, name):
            _beside(axes, place, height, text)
    axes.axvline(len(names), color=LINE, lw=0.8)
    for value in dict.fromkeys((low, high)):
        height = (value - low) / ((high - low) or 1)
        _beside(axes, len(names), height, label(value))
    ticks = [*names, shown.metric]
    slanted = max(map(width_of, ticks)) > 14
    axes.set_xticks(range(len(ticks)), ticks, rotation=25 if slanted else 0, ha="right" if slanted else "center")
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_title(f"{shown.name}: each trial, coloured by {shown.metric} (dotted: pruned)")
    return save(figure, path)


def _beside(axes: Axes, place: float, height: float, text: str) -> None:
    said = axes.annotate(text, (place, height), (4, 0), textcoords="offset points", fontsize=8, va="center", zorder=4)
    said.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1})


def draw_reports(path: Path, shown: Shown) -> Path | None:
    """Draw what each trial reported on its way; None where nothing was reported."""
    if not any(point.reports for point in shown.points):
        return None
    figure = new_figure(8, 4.2)
    axes = figure.subplots()
    for point in shown.points:
        steps, best = sorted(point.reports), point.number == shown.best
        color = VALIDATION if best else QUIET if point.pruned else TRAIN
        alpha, width, above = (1.0, 2.2, 3) if best else (0.7, 1.0, 2 - point.pruned)
        marker = "o" if len(steps) == 1 else None
        reports = [point.reports[step] for step in steps]
        axes.plot(steps, reports, color=color, alpha=alpha, lw=width, zorder=above, marker=marker, ms=3)
    value_axis(axes, shown.metric, [value for point in shown.points for value in point.reports.values()])
    axes.set_xlabel("epoch, or seed where trials are pruned between seeds")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    kinds = [Line2D([], [], color=color) for color in (VALIDATION, TRAIN, QUIET)]
    names = [f"trial {shown.best}, the best", "complete", "pruned"]
    axes.legend(kinds, names, framealpha=0.85, edgecolor="none", fontsize=9)
    axes.set_title(f"{shown.name}: {shown.metric} on the way")
    return save(figure, path)


def draw_front(
    path: Path, name: str, goals: Sequence[str], reached: Sequence[Sequence[float]], front: set[int]
) -> Path:
    """Draw two goals of complete trials against each other; `front` has the places of those that none beats in both."""
    figure = new_figure(7, 4.6)
    axes = figure.subplots()
    for best, color, text in ((False, QUIET, "others"), (True, VALIDATION, "on the front: none is better in both")):
        there = [values for place, values in enumerate(reached) if (place in front) is best]
        axes.plot(*([values[axis] for values in there] for axis in (1, 0)), "o", color=color, label=text, ms=6)
    which: Literal["x", "y"]
    for which, goal in (("x", 1), ("y", 0)):
        if is_wide(costs := [values[goal] for values in reached]):
            logarithmic(axes, which, costs)
    axes.set_xlabel(goals[1])
    axes.set_ylabel(goals[0])
    axes.grid(alpha=0.25)
    axes.legend(framealpha=0.85, edgecolor="none", fontsize=9)
    axes.set_title(f"{name}: {goals[0]} against {goals[1]}")
    return save(figure, path)
