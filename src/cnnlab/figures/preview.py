"""The learning curves once more, small: for a run's description, whose pictures MLflow shows as large as they are."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from matplotlib.ticker import MaxNLocator

from cnnlab.figures.canvas import STYLE, TRAIN, VALIDATION, new_figure
from cnnlab.tracking.descriptions import WIDTH
from cnnlab.tracking.history import History

HEIGHT = 230  # pixels
LINES = (("train", "training", TRAIN), ("val", "validation", VALIDATION))


def draw_preview(path: Path, history: History, kept: int) -> bool:
    """Draw loss and accuracy with the kept epoch, exactly as wide as a description is; False without an epoch."""
    if not history.get("train/loss"):
        return False
    with matplotlib.rc_context(STYLE):
        figure = new_figure(WIDTH / 100, HEIGHT / 100)
        figure.set_layout_engine("constrained")
        for axes, measure, title in zip(
            figure.subplots(1, 2), ("loss", "acc"), ("loss (nats)", "accuracy"), strict=True
        ):
            for split, label, color in LINES:
                points = sorted(history.get(f"{split}/{measure}", {}).items())
                if points:
                    epochs, values = zip(*points, strict=True)
                    axes.plot(epochs, values, color=color, label=label, marker="o" if len(points) == 1 else None, ms=4)
            if kept:
                axes.axvline(kept, color="black", lw=1, ls="--", alpha=0.6, label=f"kept: epoch {kept}")
            axes.set_title(title, fontsize=9)
            axes.set_xlabel("epoch", fontsize=8)
            axes.tick_params(labelsize=8)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
            axes.grid(alpha=0.25)
            axes.legend(fontsize=7, framealpha=0.85, edgecolor="none")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=100)
    return True
