"""The leaderboard as Markdown for people and as CSV for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from cnnlab.report.ledger import NOTE as CHANCE
from cnnlab.report.rows import Row, Spread

HEADINGS = (
    "",
    "place",
    "recipe",
    "dataset",
    "model",
    "regularization",
    "differs in",
    "parameters",
    "seeds",
    "test acc",
    "val acc",
    "epochs",
    "seconds",
    "device",
    "author",
    "reached",
)
NUMBERS = {"", "place", "parameters", "seeds", "test acc", "val acc", "epochs", "seconds"}
# What is said below the table, each beside the column that it is about.
NOTES = {
    "": "Sorted by validation; rows without it are last, by name.",
    "differs in": "Differs in: the settings that tell a row from others that look like it.",
    "place": "Place: which of its dataset a row may have, as far as paired t tests of validation on the seeds in "
    "common tell (Holm, 5 % over all pairs; at least 3 such seeds): rows that share a place are not told apart; those "
    "of folds, which share images, are not tested.",
    "seeds": "Mean ± half of Student's 95 % interval over seeds or folds (of 3 seeds 2.5 sample standard deviations, "
    "of 5 seeds 1.2), on the test split and, for the same checkpoints, on validation; epochs and training seconds are "
    "means.",
    "author": "Author: the test accuracy the recipe's author reported (val: validation accuracy; goal: one set here). "
    "Reached: our mean is at least that, within two of our standard deviations (a goal: without them).",
}


def as_markdown(
    rows: Sequence[Row], selection: str, origin: str, machines: Sequence[str], ledger: Sequence[str]
) -> str:
    """Return the table, the command that reproduces each of its rows, and how often the test splits were read."""
    lines = ["# Results", "", f"Written by `{origin}`, not by hand: {selection}.", ""]
    if not rows:
        return "\n".join([*lines, "No runs.", ""])
    table = filled(rows)
    headings = table[0]
    widths = [max(3, *(len(line[column]) for line in table)) for column in range(len(headings))]
    for place, line in enumerate(table):
        lines.append("| " + " | ".join(_padded(*cell) for cell in zip(line, headings, widths, strict=True)) + " |")
        if place == 0:
            rules = (
                "-" * (width - 1) + (":" if name in NUMBERS else "-")
                for name, width in zip(headings, widths, strict=True)
            )
            lines.append("| " + " | ".join(rules) + " |")
    lines += ["", note(headings), "", "Commands:", ""]
    lines += [f"{number}. `{row.command}`" for number, row in enumerate(rows, start=1)]
    if differing := mixed(rows):
        lines += ["", *differing]
    if machines:
        lines += ["", "Machines: " + "; ".join(machines) + "."]
    if ledger:
        lines += ["", "Ledger of the test splits:", "", *(f"- {line}" for line in ledger), "", CHANCE]
    return "\n".join([*lines, ""])


def filled(rows: Sequence[Row]) -> list[list[str]]:
    """Return headings and rows as people read them, without the columns in which no row has anything."""
    whole = [list(HEADINGS), *([str(number), *cells(row)] for number, row in enumerate(rows, start=1))]
    kept = [column for column in range(len(HEADINGS)) if any(line[column] for line in whole[1:])]
    return [[line[column] for column in kept] for line in whole]


def note(headings: Sequence[str]) -> str:
    """Return what is to be known of a table with these columns."""
    return " ".join(text for heading, text in NOTES.items() if heading in headings)


def mixed(rows: Sequence[Row]) -> list[str]:
    """Return a line for each row whose runs differ in more than the seed."""
    return [f"Row {number} mixes {', '.join(row.mixed)}." for number, row in enumerate(rows, start=1) if row.mixed]


def as_csv(rows: Sequence[Row]) -> str:
    """Return one line a row, numbers in full."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    spreads = ("test_accuracy", "test_loss", "validation_accuracy", "epochs", "seconds")
    plain = ("recipe", "changed", "dataset", "model", "regularization", "parameters", "device")
    columns = [f"{name}_{part}" for name in spreads for part in ("mean", "std")]
    writer.writerow(
        [
            *plain,
            "n_seeds",
            "seeds",
            "folds",
            *columns,
            "author",
            "author_split",
            "reached",
            "places",
            "mixed",
            "differing",
            "command",
            "run_ids",
        ]
    )
    for row in rows:
        numbers: list[object] = []
        for name in spreads:
            spread: Spread | None = getattr(row, name)
            numbers += ["", ""] if spread is None else [spread.mean, spread.deviation if len(spread.values) > 1 else ""]
        author = [row.target.accuracy, row.target.split] if row.target else ["", ""]
        reached = "" if row.reached is None else row.reached
        seeds = len(row.seeds), " ".join(row.seeds), " ".join(row.folds)
        own = [getattr(row, name) for name in plain]
        writer.writerow(
            [
                *own,
                *seeds,
                *numbers,
                *author,
                reached,
                place(row),
                "; ".join(row.mixed),
                " ".join(row.differing),
                row.command,
                " ".join(row.run_ids),
            ]
        )
    return stream.getvalue()


def cells(row: Row) -> list[str]:
    """Return the row as people read it."""
    return [
        place(row),
        row.recipe + (", changed" if row.changed else ""),
        row.dataset,
        row.model,
        row.regularization,
        f"`{' '.join(row.differing)}`".replace("|", "\\|") if row.differing else "",
        "" if row.parameters is None else f"{row.parameters:,}",
        row.trainings,
        _accuracy(row.test_accuracy),
        _accuracy(row.validation_accuracy),
        "" if row.epochs is None else f"{row.epochs.mean:.3g}",
        "" if row.seconds is None else f"{row.seconds.mean:,.1f}",
        row.device,
        "" if row.target is None else str(row.target),
        "" if row.reached is None else "yes" if row.reached else "no",
    ]


def place(row: Row) -> str:
    """Return the place that a row has, or those it may have: `2-4`."""
    if row.places is None:
        return ""
    best, worst = row.places
    return str(best) if best == worst else f"{best}-{worst}"


def _accuracy(spread: Spread | None) -> str:
    if spread is None:
        return ""
    return f"{spread.mean:.4f}" + (f" ± {spread.half_width:.4f}" if len(spread.values) > 1 else "")


def _padded(text: str, heading: str, width: int) -> str:
    return text.rjust(width) if heading in NUMBERS else text.ljust(width)
