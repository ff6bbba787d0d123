"""The leaderboard on a terminal: two lines a row, so that 80 columns are enough, and the commands unbroken below."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from cnnlab.report.ledger import NOTE as CHANCE
from cnnlab.report.rows import Row, Spread
from cnnlab.report.write import filled, mixed, note, place

COLUMNS = ("what", "place", "test acc", "val acc", "seeds", "epochs\nseconds", "author\nreached")
TEXTS = ("what", "author\nreached")


def as_table(rows: Sequence[Row], selection: str, machines: Sequence[str], ledger: Sequence[str], width: int) -> str:
    """Return the leaderboard for a screen of `width` columns; a command is one line, however long."""
    table = Table(box=box.HORIZONTALS, pad_edge=False, show_edge=False, show_lines=True)
    table.add_column("", justify="right", no_wrap=True)
    shown = [cells(row) for row in rows]
    kept = [column for column in range(len(COLUMNS)) if any(line[column].strip() for line in shown)]
    for name in (COLUMNS[column] for column in kept):
        justify: JustifyMethod = "left" if name in TEXTS else "right"
        table.add_column(name, justify=justify, no_wrap=name != "what", overflow="fold")
    for number, line in enumerate(shown, start=1):
        table.add_row(str(number), *(Text(line[column]) for column in kept))
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        if rows:
            console.print(table)
            console.print()
            console.print(note(filled(rows)[0]))
        console.print(f"\n{selection}" if rows else f"No runs: {selection}", markup=False)
        for number, row in enumerate(rows, start=1):
            console.print(f"{number}. {row.command}", soft_wrap=True, markup=False)
        for said in mixed(rows):
            console.print(said, soft_wrap=True)
        if machines:
            console.print("Machines: " + "; ".join(machines), markup=False)
        if ledger:
            console.print()
            for said in ledger:
                console.print(said, soft_wrap=True)
            console.print(CHANCE)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def cells(row: Row) -> list[str]:
    """Return the row in a few lines a cell: what it was, on what and how, and each measure over its spread."""
    name = f"{row.recipe}{', changed' if row.changed else ''}" if row.recipe else row.model
    known = (row.dataset, row.model if row.recipe else "", row.regularization, row.device)
    size = [] if row.parameters is None else [f"{row.parameters:,} parameters"]
    differing = [f"differs in {' '.join(row.differing)}"] if row.differing else []
    reached = "" if row.reached is None else "yes" if row.reached else "no"
    return [
        f"{name}\n{' '.join(filter(None, known))}" + "".join(f"\n{part}" for part in (*differing, *size)),
        place(row),
        measured(row.test_accuracy),
        measured(row.validation_accuracy),
        row.trainings,
        f"{'' if row.epochs is None else f'{row.epochs.mean:.3g}'}\n"
        f"{'' if row.seconds is None else f'{row.seconds.mean:,.1f}'}",
        f"{row.target or ''}\n{reached}",
    ]


def measured(spread: Spread | None) -> str:
    """Return the mean and, of several seeds, below it half of their 95 % interval."""
    if spread is None:
        return ""
    return f"{spread.mean:.4f}" + (f"\n± {spread.half_width:.4f}" if len(spread.values) > 1 else "")
