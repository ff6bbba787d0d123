"""The leaderboard on a terminal: two lines a row, so that 80 columns are enough, and the commands unbroken below."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cnnlab.report.leaderboard import Row, Spread
from cnnlab.report.ledger import NOTE as CHANCE
from cnnlab.report.write import NOTE, mixed, place

NUMBERS = ("place", "test acc", "val acc", "seeds", "epochs\nseconds")


def as_table(rows: Sequence[Row], selection: str, machines: Sequence[str], ledger: Sequence[str], width: int) -> str:
    """Return the leaderboard for a screen of `width` columns; a command is one line, however long."""
    table = Table(box=box.HORIZONTALS, pad_edge=False, show_edge=False, show_lines=True)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("what", overflow="fold")
    for name in NUMBERS:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("author\nreached", no_wrap=True)
    for number, row in enumerate(rows, start=1):
        table.add_row(str(number), *(Text(cell) for cell in cells(row)))
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        if rows:
            console.print(table)
            console.print()
            console.print(NOTE)
        console.print(f"\n{selection}" if rows else f"No runs: {selection}", markup=False)
        for number, row in enumerate(rows, start=1):
            console.print(f"{number}. {row.command}", soft_wrap=True, markup=False)
        for line in mixed(rows):
            console.print(line, soft_wrap=True)
        if machines:
            console.print("Machines: " + "; ".join(machines), markup=False)
        if ledger:
            console.print()
            for line in ledger:
                console.print(line, soft_wrap=True)
            console.print(CHANCE)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def cells(row: Row) -> list[str]:
    """Return the row in two lines a cell: what it was and on what, and each measure over its spread."""
    name = f"{row.recipe}{', changed' if row.changed else ''}" if row.recipe else row.model
    known = (row.dataset, row.model if row.recipe else "", row.regularization, row.device)
    size = [] if row.parameters is None else [f"{row.parameters:,} parameters"]
    reached = "" if row.reached is None else "yes" if row.reached else "no"
    return [
        f"{name}\n{' '.join(filter(None, known))}" + "".join(f"\n{part}" for part in size),
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
