"""The table that ends `train.py -m`: one row a job, whatever became of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from rich import box
from rich.console import Console
from rich.table import Table

from cnnlab.errors import Incomplete, UsageError
from cnnlab.job import Job
from cnnlab.signals import Interruption
from cnnlab.tracking.schema import Metric

SHORT = 8  # characters of a run's id, enough for run=ID
ACCURACY, LOSS = "val/acc", Metric.VAL_LOSS
VALUES = (ACCURACY, Metric.TEST_ACCURACY)


class Reached(Protocol):
    """What a training returns."""

    @property
    def run_id(self) -> str: ...
    @property
    def best_epoch(self) -> int: ...
    @property
    def metrics(self) -> Mapping[str, float]: ...
    @property
    def history(self) -> Mapping[int, Mapping[str, float]]: ...


@dataclass
class Ending:
    """How one job ended; without metrics and run where it came to nothing."""

    overrides: tuple[str, ...]
    status: str = "finished"
    run_id: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)

    def fill(self, result: Reached | None) -> None:
        """Take over a training's run and metrics, of validation those of the kept checkpoint."""
        if result is not None:
            self.run_id = result.run_id
            self.metrics = {**result.history.get(result.best_epoch, {}), **result.metrics}


@contextmanager
def ending_of(job: Job, endings: list[Ending]) -> Iterator[Ending]:
    """Add to `endings` how the job ends that runs in this block, which fills in what it has reached."""
    ending = Ending(job.overrides)
    endings.append(ending)
    try:
        yield ending
    except UsageError:
        ending.status = "refused"
        raise
    except Interruption:
        ending.status = "stopped"
        raise
    except Incomplete:
        raise
    except BaseException:
        ending.status = "failed"
        raise


def show_summary(endings: Sequence[Ending]) -> None:
    """Print the table of several jobs, the best by validation marked; of a single one nothing."""
    if len(endings) < 2:
        return
    best = best_of(endings)
    table = Table(box=box.HORIZONTALS, pad_edge=False, show_edge=False)
    table.add_column("job")
    table.add_column("changed", overflow="fold")
    for name in VALUES:
        table.add_column(str(name), justify="right", no_wrap=True)
    table.add_column("run", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for number, (ending, changed) in enumerate(zip(endings, differing(endings), strict=True)):
        values = [f"{ending.metrics[name]:.4f}" if name in ending.metrics else "" for name in VALUES]
        status = "best" if number == best else ending.status  # only a finished one is
        table.add_row(str(number), changed, *values, ending.run_id[:SHORT], status)
    Console(highlight=False, markup=False, emoji=False).print(table)


def best_of(endings: Sequence[Ending]) -> int | None:
    """Return which job is best as `run=best` chooses: by validation accuracy, then loss; None without any."""
    measured = [number for number, ending in enumerate(endings) if ACCURACY in ending.metrics]
    if len(measured) < 2:
        return None
    return max(measured, key=lambda number: (endings[number].metrics[ACCURACY], -endings[number].metrics[LOSS]))


def differing(endings: Sequence[Ending]) -> list[str]:
    """Return of each job the overrides that not all jobs share."""
    shared = set.intersection(*(set(ending.overrides) for ending in endings))
    return [" ".join(item for item in ending.overrides if item not in shared) for ending in endings]
