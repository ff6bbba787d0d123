"""Learning curves: loss and accuracy, training against validation, over the epochs."""

from __future__ import annotations

import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from cnnlab.figures.canvas import TRAIN, VALIDATION, new_figure, save
from cnnlab.tracking.history import History

LINES = (("train", "training", TRAIN), ("val", "validation", VALIDATION))


def draw_learning_curves(folder: Path, history: History, tested: int, skip_epochs: int) -> list[Path]:
    """Draw all epochs, and where there are enough of them again without the first `skip_epochs`."""
    last = max(history.get("train/loss", {}), default=0)
    if last == 0:
        return []
    drawn = [_draw(folder / "learning_curves.png", history, tested, 1)]
    if 0 < skip_epochs <= last - 2:
        name = f"learning_curves_from_epoch_{skip_epochs + 1}.png"
        drawn.append(_draw(folder / name, history, tested, skip_epochs + 1))
    return drawn


def _draw(path: Path, history: History, tested: int, first_epoch: int) -> Path:
    last = max(history["train/loss"])
    figure = new_figure(11, 4.2)
    for axes, measure, title in zip(figure.subplots(1, 2), ("loss", "acc"), ("loss (nats)", "accuracy"), strict=True):
        for split, label, color in LINES:
            points = {
                epoch: value for epoch, value in history.get(f"{split}/{measure}", {}).items() if epoch >= first_epoch
            }
            if points:
                epochs = sorted(points)
                marker = "o" if len(epochs) <= 30 else None
                axes.plot(epochs, [points[epoch] for epoch in epochs], color=color, label=label, marker=marker, ms=3.5)
        _mark(axes, history, measure, tested, first_epoch)
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.set_xticks(epoch_ticks(first_epoch, last))
        if last == first_epoch:
            axes.set_xlim(last - 1, last + 1)
        axes.grid(alpha=0.25)
        axes.legend(framealpha=0.85, edgecolor="none")
    figure.subplots_adjust(wspace=0.18)
    return save(figure, path)


def epoch_ticks(first: int, last: int) -> list[int]:
    """Return which epochs are named on an axis: whole ones that were trained, no 0."""
    ticks = MaxNLocator(integer=True, min_n_ticks=1).tick_values(first, last)
    named = [round(tick) for tick in ticks if first <= tick <= last]
    return named if first in named or last - first > 12 else [first, *named]


def _mark(axes: Axes, history: History, measure: str, tested: int, first_epoch: int) -> None:
    """Mark the epoch of the lowest validation loss (training, where there is no validation) and the one tested."""
    split = "val" if history.get("val/loss") else "train"
    losses, values = history[f"{split}/loss"], history[f"{split}/{measure}"]
    best = min(losses, key=lambda epoch: (math.isnan(losses[epoch]), losses[epoch], epoch))
    names = {best: "best"} if best == tested else {best: "lowest loss", tested: "tested"}
    for epoch, name in names.items():
        if epoch < first_epoch or epoch not in values:
            continue
        marker, size, line = ("*", 13, "--") if epoch == best else ("D", 7, ":")
        color = VALIDATION if split == "val" else TRAIN
        label = f"{name}: epoch {epoch}, {values[epoch]:.4f}"
        axes.axvline(epoch, color="black", lw=1, ls=line, alpha=0.7)
        axes.plot([epoch], [values[epoch]], marker, ms=size, color=color, mec="black", mew=0.8, zorder=5, label=label)
