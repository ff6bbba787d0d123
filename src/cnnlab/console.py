"""What a run says on the screen: a live bar on a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from itertools import groupby

import pytorch_lightning as pl
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cnnlab.errors import hidden
from cnnlab.metrics import EpochSums
from cnnlab.tracking.schema import CURVES, Metric


def in_notebook() -> bool:
    """Return whether this is a cell of a notebook, which redraws a line but moves no cursor."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and shell.has_trait("kernel")


# In a notebook a run says plain lines: rich would make a cell output of each, and takes the cell for a terminal.
# Class names, file names and overrides are printed as they are: "[/b]" is no markup, ":cat:" no picture.
class HidingConsole(Console):
    """A console that shows no password."""

    def print(self, *objects: object, **options: object) -> None:
        shown = [hidden(item) if isinstance(item, str) else item for item in objects]
        super().print(*shown, **options)  # type: ignore[arg-type]


console = HidingConsole(
    highlight=False, markup=False, emoji=False, force_jupyter=False, force_terminal=False if in_notebook() else None
)


def say(text: str) -> None:
    """Print a sentence: on a terminal wrapped between words, in a pipe one line however long it is."""
    console.print(text, soft_wrap=not console.is_terminal, markup=False)


class EpochLines:
    """Prints one line an epoch, on terminals and in pipes alike: it stays when the bar is gone."""

    def __init__(self, max_epochs: int | None):
        self.of = f"/{max_epochs}" if max_epochs and max_epochs > 0 else ""
        self.width = len(self.of)

    def __call__(self, epoch: int, metrics: Mapping[str, float]) -> None:
        shown = [f"epoch {f'{epoch}{self.of}':>{2 * self.width - 1}}"]
        for split, names in groupby((name for name in CURVES if name in metrics), key=lambda name: name.split("/")[0]):
            # The split is named once: two of them have to fit into 80 columns.
            values = " ".join(f"{name.split('/')[1]} {metrics[name]:.4f}" for name in names)
            shown.append(f"{split}/{values}")
        console.print("  ".join([*shown, f"{metrics[Metric.EPOCH_SECONDS]:.1f} s"]), soft_wrap=True)


class EpochCount(pl.Callback):
    """A line in a notebook that counts the current epoch's batches, drawn again twice a second at most."""

    SECONDS = 0.5
    only_looks = True

    def __init__(self) -> None:
        self.drawn = time.monotonic()
        self.width = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if time.monotonic() - self.drawn >= self.SECONDS and trainer.is_global_zero:
            self.draw(f"epoch {trainer.current_epoch + 1}: batch {batch_idx + 1} of {trainer.num_training_batches}")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.width:
            self.draw("")

    def draw(self, text: str) -> None:
        print(f"\r{text:<{self.width}}", end="" if text else "\r", flush=True)
        self.width, self.drawn = len(text), time.monotonic()


class EpochBar(pl.Callback):
    """A live bar of the current epoch with the loss and accuracy so far, redrawn ten times a second at most.

    Beside it the time that this epoch still takes, and that of all at most: early stopping may end them before. Reading
    the sums waits for the device, so they are read when the bar is drawn and not at every step.
    """

    SECONDS = 0.1
    only_looks = True

    def __init__(self) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),  # all of it fits into 80 columns
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[metrics]}"),
            TextColumn("{task.fields[left]}"),
            console=console,
            transient=True,
        )
        self.drawn = 0.0
        self.began: tuple[float, int] | None = None  # when, and with which epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        for task in self.progress.task_ids:
            self.progress.remove_task(task)
        self.began = self.began or (time.monotonic(), trainer.current_epoch)
        of = f"/{trainer.max_epochs}" if (trainer.max_epochs or 0) > 0 else ""
        name = f"epoch {trainer.current_epoch + 1}{of}"
        self.progress.add_task(name, total=trainer.num_training_batches, metrics="", left="")
        self.progress.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        now = time.monotonic()
        if now - self.drawn < self.SECONDS or not trainer.is_global_zero:
            return
        self.drawn = now
        sums = pl_module.train_sums
        assert isinstance(sums, EpochSums)
        metrics = f"loss {float(sums.loss / sums.images):.4f} acc {float(sums.correct / sums.images):.4f}"
        done = batch_idx + 1
        left = self.left(trainer, done)
        self.progress.update(self.progress.task_ids[0], completed=done, metrics=metrics, left=left)

    def left(self, trainer: pl.Trainer, batches: int) -> str:
        """Return how long all epochs will still take at most, once a whole one tells."""
        if self.began is None or (trainer.max_epochs or 0) <= 0:
            return ""
        started, first = self.began
        done = trainer.current_epoch - first + batches / max(1, float(trainer.num_training_batches))
        if done < 1:
            return ""
        assert trainer.max_epochs is not None
        seconds = (time.monotonic() - started) / done * (trainer.max_epochs - first - done)
        if seconds < 90:
            return f"≤ {seconds:.0f} s"
        return f"≤ {seconds / 60:.0f} min" if seconds < 5400 else f"≤ {seconds / 3600:.1f} h"

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.progress.stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.progress.stop()


def show_closing(rows: Mapping[str, str]) -> None:
    """Print the closing block: one row a fact, each on a line of its own however long it is."""
    rows = {name: hidden(value) for name, value in rows.items()}
    if console.is_terminal:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold")
        table.add_column()
        room = console.width - max(map(len, rows)) - 8
        for name, value in rows.items():
            if len(value) <= room:
                table.add_row(name, value)
        console.print(Panel(table, title="result", title_align="left", expand=False))
        for name, value in rows.items():
            if len(value) > room:  # a link or a command to copy: a frame would break it
                console.print(name, style="bold", soft_wrap=True)
                console.print(value, soft_wrap=True, markup=False)
        return
    width = max(map(len, rows))
    for name, value in rows.items():
        console.print(f"{name:<{width}}  {value}", soft_wrap=True, markup=False)
