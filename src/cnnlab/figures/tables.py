"""What the pictures show, as tables a program can read."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from cnnlab.predictions import PER_CLASS, Predictions


def write_confusion(folder: Path, predictions: Predictions, class_names: Sequence[str]) -> Path:
    """Write the counts: true classes down, predicted classes across."""
    rows = zip(class_names, predictions.confusion.tolist(), strict=True)
    return _write(
        folder / "confusion_matrix.csv", ["true \\ predicted", *class_names], [[name, *row] for name, row in rows]
    )


def write_classes(folder: Path, predictions: Predictions, class_names: Sequence[str]) -> Path:
    """Write one row a class: its number of images, precision, recall and F1."""
    columns = [class_names, predictions.confusion.sum(dim=1).tolist()]
    for measure in PER_CLASS.values():
        values = measure(predictions.predicted, predictions.labels, predictions.classes, average="none")
        columns.append([f"{value:.6f}" for value in values.tolist()])
    return _write(folder / "classes.csv", ["class", "images", *PER_CLASS], list(zip(*columns, strict=True)))


def _write(path: Path, heading: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(heading)
        writer.writerows(rows)
    return path
