"""Learning curves: loss and accuracy, training against validation, over the epochs."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from cnnlab.figures.canvas import TRAIN, VALIDATION, new_figure, save
from cnnlab.tracking.history import History

LINES = (("train", "training", TRAIN), ("val", "validation", VALIDATION))


def draw_learning_curves(folder: Path, history: History, best_epoch: int, skip_epochs: int) -> list[Path]:
    """Draw all epochs, and where there are enough of them again without the first `skip_epochs`."""
    last = max(history.get("train/loss", {}), default=0)
    if last == 0:
        return []
    drawn = [_draw(folder / "learning_curves.png", history, best_epoch, 1)]
    if 0 < skip_epochs <= last - 2:
        name = f"learning_curves_from_epoch_{skip_epochs + 1}.png"
        drawn.append(_draw(folder / name, history, best_epoch, skip_epochs + 1))
    return drawn


def _draw(path: Path, history: History, best_epoch: int, first_epoch: int) -> Path:
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
        if best_epoch >= first_epoch:
            _mark(axes, history, measure, best_epoch)
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
    figure.subplots_adjust(wspace=0.18)
    return save(figure, path)


def _mark(axes: Axes, history: History, measure: str, best_epoch: int) -> None:
    """Mark the epoch whose checkpoint was kept, and its validation value (training, where there is no validation)."""
    split = "val" if best_epoch in history.get(f"val/{measure}", {}) else "train"
    value = history.get(f"{split}/{measure}", {}).get(best_epoch)
    label = f"best: epoch {best_epoch}" + (f", {value:.4f}" if value is not None else "")
    axes.axvline(best_epoch, color="black", lw=1, ls="--", alpha=0.7, label=label)
    if value is not None:
        color = VALIDATION if split == "val" else TRAIN
        axes.plot([best_epoch], [value], "*", color=color, ms=14, mec="black", mew=0.8, zorder=5)
