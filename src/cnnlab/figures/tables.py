"""What the pictures show, as tables a program can read."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from cnnlab.metrics import PER_CLASS, Predictions


def write_confusion(folder: Path, predictions: Predictions, class_names: Sequence[str]) -> Path:
    """Write the counts: true classes down, predicted classes across."""
    rows = zip(class_names, predictions.confusion.tolist(), strict=True)
    return _write(
        folder / "confusion_matrix.csv", ["true \\ predicted", *class_names], [[name, *row] for name, row in rows]
    )


def write_classes(folder: Path, predictions: Predictions, class_names: Sequence[str]) -> Path:
    """Write one row a class: its number of images, precision, recall and F1."""
    measures = [[f"{value:.6f}" for value in values] for values in predictions.class_measures.values()]
    columns = [class_names, predictions.images_per_class, *measures]
    return _write(folder / "classes.csv", ["class", "images", *PER_CLASS], list(zip(*columns, strict=True)))


def _write(path: Path, heading: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(heading)
        writer.writerows(rows)
    return path
