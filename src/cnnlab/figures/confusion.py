"""The confusion matrix with counts and per-class recall, for few classes and for many."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from cnnlab.figures.canvas import RIGHT, WRONG, FloatArray, new_figure, save, width_of
from cnnlab.metrics import Predictions

MOST_WITH_COUNTS = 20  # classes whose counts can still be read in their cells
NAMED = 20  # classes and confusions named beside a larger matrix


def draw_confusion(folder: Path, predictions: Predictions, names: Sequence[str], split: str) -> Path:
    """Draw true classes down, predicted classes across; colour is the share of the true class."""
    counts = predictions.confusion.numpy()
    totals = counts.sum(axis=1)
    shares = counts / np.maximum(totals, 1)[:, None]
    accuracy = np.trace(counts) / max(1, counts.sum())
    title = f"{split}: {np.trace(counts):,} of {counts.sum():,} right, accuracy {accuracy:.4f}"
    path = folder / "confusion_matrix.png"
    if len(names) <= MOST_WITH_COUNTS:
        return _with_counts(path, counts, shares, names, title)
    return _with_names_beside(path, counts, shares, names, title)


def _matrix(axes: Axes, shares: FloatArray, title: str) -> None:
    # The square root lets one mistake in a hundred show beside ninety-nine hits.
    axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1), aspect="auto")
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title)


def _recalls(counts: NDArray[np.int64]) -> FloatArray:
    """Per-class recall; NaN where a class has no image."""
    totals = counts.sum(axis=1).astype(float)
    totals[totals == 0] = np.nan
    return np.diag(counts) / totals


def _bars(axes: Axes, recalls: FloatArray) -> None:
    axes.barh(range(len(recalls)), np.nan_to_num(recalls), color=RIGHT, height=0.7)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1])
    for place, recall in enumerate(recalls.tolist()):
        label = "no image" if np.isnan(recall) else f"{recall:.3f}"
        axes.text(1.04, place, label, va="center", fontsize=9, clip_on=False)


def _with_counts(path: Path, counts: NDArray[np.int64], shares: FloatArray, names: Sequence[str], title: str) -> Path:
    side = max(3.2, 0.62 * len(names))
    figure = new_figure(side + 3.2, side + 0.8)
    matrix, bars = figure.subplots(1, 2, width_ratios=[side, 1.6], gridspec_kw={"wspace": 0.06})
    _matrix(matrix, shares, title)
    places = range(len(names))
    long = max(map(width_of, names)) > 3
    matrix.set_xticks(places, names, rotation=40 if long else 0, ha="right" if long else "center")
    matrix.set_yticks(places, names)
    size = 10 if counts.max() < 10_000 else 8
    for row, column in np.argwhere(counts).tolist():
        color = "white" if shares[row, column] > 0.3 else "black"
        matrix.text(column, row, str(counts[row, column]), ha="center", va="center", color=color, fontsize=size)
    _bars(bars, _recalls(counts))
    bars.set_ylim(matrix.get_ylim())
    bars.set_yticks([])
    bars.set_title("recall")
    return save(figure, path)


def _with_names_beside(
    path: Path, counts: NDArray[np.int64], shares: FloatArray, names: Sequence[str], title: str
) -> Path:
    figure = new_figure(19, 8.6)
    figure.set_layout_engine("constrained", wspace=0.03)
    matrix, lowest, pairs = figure.subplots(1, 3, width_ratios=[8, 2.2, 2.2])
    _matrix(matrix, shares, title)
    step = -(-len(names) // 25)
    matrix.set_xticks(range(0, len(names), step), names[::step], rotation=90, fontsize=8)
    matrix.set_yticks(range(0, len(names), step), names[::step], fontsize=8)

    recalls = _recalls(counts)
    worst = np.argsort(recalls, kind="stable")[:NAMED]
    _bars(lowest, recalls[worst])
    lowest.set_yticks(range(len(worst)), [names[place] for place in worst], fontsize=9)
    lowest.invert_yaxis()
    lowest.set_title(f"lowest recall of {len(names)} classes")

    mistakes = counts * (1 - np.eye(len(names), dtype=counts.dtype))
    order = np.argsort(mistakes, axis=None, kind="stable")[::-1][:NAMED]
    cells = [divmod(int(place), len(names)) for place in order if mistakes.flat[place]]
    pairs.barh(range(len(cells)), [mistakes[cell] for cell in cells], color=WRONG, height=0.7)
    pairs.set_yticks(range(len(cells)), [f"{names[true]} → {names[told]}" for true, told in cells], fontsize=9)
    pairs.invert_yaxis()
    pairs.set_title("most frequent mistakes" if cells else "no mistakes")
    pairs.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    for place, cell in enumerate(cells):
        pairs.text(mistakes[cell], place, f" {mistakes[cell]}", va="center", fontsize=9)
    return save(figure, path)
