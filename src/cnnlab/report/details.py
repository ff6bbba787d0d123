"""What a page shows of rows and sweeps beyond the leaderboard: curves, confusions, mistakes, trials, importances."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from PIL import Image

from cnnlab.report.read import Facts
from cnnlab.report.rows import Row
from cnnlab.tracking.find import artifact_file, artifact_folder
from cnnlab.tracking.history import History, epoch_history

# A page is sent by mail and opened on a phone: what is shown of many runs has an end.
MOST_CURVES = 120  # runs
MOST_CONFUSIONS = 60  # rows
MOST_PICTURES = 12  # rows
COLORS = 48  # of a picture: a third of its size, and no difference to see
CONFUSION, MISTAKES = "figures/confusion_matrix.csv", "figures/mistakes.png"
TRIALS, IMPORTANCES = "trials.csv", "plots/importances.csv"

Table = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Details:
    """Of one row: the curves of its runs by their ids, and of its last run the confusion, with headings, and mistakes.

    What a run does not keep, or the page has no room for, is empty.
    """

    curves: dict[str, History] = field(default_factory=dict)
    confusion: Table = ()
    mistakes: bytes = b""


@dataclass(frozen=True)
class Searched:
    """A sweep: its own run, its trials and its importances as tables with headings; empty where it keeps none."""

    facts: Facts
    trials: Table
    importances: Table


def details_of(rows: Sequence[Row], uri: str) -> list[Details]:
    """Return the details of each row, of the first ones all there is."""
    client = mlflow.MlflowClient(uri)
    found, curves = [], 0
    for place, row in enumerate(rows):
        there: dict[str, History] = {}
        for run_id in row.run_ids[: MOST_CURVES - curves]:
            there[run_id] = epoch_history(client, run_id)
        curves += len(there)
        run = client.get_run(row.run_ids[-1]) if place < MOST_CONFUSIONS else None
        found.append(
            Details(
                curves=there,
                confusion=_table(client, run, CONFUSION) if run else (),
                mistakes=_picture(client, run) if run and place < MOST_PICTURES else b"",
            )
        )
    return found


def sweeps_of(runs: Sequence[Facts], uri: str) -> list[Searched]:
    """Return the sweeps, the latest first, with what they keep."""
    client = mlflow.MlflowClient(uri)
    found = []
    for facts in sorted(runs, key=lambda facts: -facts.started):
        run = client.get_run(facts.run_id)
        found.append(Searched(facts, _table(client, run, TRIALS), _table(client, run, IMPORTANCES)))
    return found


def finite(history: History, name: str) -> list[list[float]]:
    """Return a curve as pairs of epoch and value, without what is no number."""
    points = history.get(name, {})
    return [[epoch, float(f"{points[epoch]:.5g}")] for epoch in sorted(points) if math.isfinite(points[epoch])]


def _table(client: mlflow.MlflowClient, run: Run, name: str) -> Table:
    file = _file(client, run, name)
    if file is None:
        return ()
    try:
        return list(csv.reader(io.StringIO(file.read_text(encoding="utf-8"))))
    except (OSError, ValueError, csv.Error):  # not what we wrote
        return ()


def _picture(client: mlflow.MlflowClient, run: Run) -> bytes:
    """Return the run's mistakes as a PNG of few colours."""
    file = _file(client, run, MISTAKES)
    if file is None:
        return b""
    stream = io.BytesIO()
    try:
        with Image.open(file) as picture:
            picture.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
    except (OSError, ValueError):
        return b""
    return stream.getvalue()


def _file(client: mlflow.MlflowClient, run: Run, name: str) -> Path | None:
    """Return the file of an artifact; None where the run does not have it, or its store does not answer."""
    folder = artifact_folder(run)
    if folder is not None:
        return folder / name if (folder / name).is_file() else None
    try:
        return artifact_file(client, run, name)
    except (MlflowException, OSError):
        return None
