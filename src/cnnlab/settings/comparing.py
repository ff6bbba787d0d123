"""What compare.py takes: two sides, the metric they are compared by, and how long is looked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from cnnlab.errors import refused
from cnnlab.settings.base import Count, Positive, Section, Seed, Text, Whole
from cnnlab.settings.commands import Store


class Compare(Section):
    """How two settings are compared."""

    delta: Positive | None = Field(
        description="the smallest difference that matters, in units of the metric: B then is also found to be no worse "
        "than A by that much; null: none is named"
    )
    min_seeds: Annotated[int, Field(ge=3)] = Field(description="pairs of trainings before the first look")
    max_seeds: Annotated[int, Field(ge=3, le=100)] = Field(description="pairs of trainings at most")
    minutes: Positive | None = Field(description="no pair begins after that many; null: any number")
    alpha: Annotated[float, Field(ge=0.001, le=0.5)] = Field(
        description="how often settings that are equal may be told apart"
    )
    seed: Seed = Field(description="of the first pair; the following ones count on")
    folds: bool = Field(description="one pair a fold of dataset.validation.method=fold, all with compare.seed")
    n_workers: Count = Field(description="processes on this machine")
    flips: Whole = Field(description="how many images at most are drawn that only one side gets right; 0: no figure")
    storage: Text = Field(description="where trainings are queued: an address as of sweep.storage")
    heartbeat: Count = Field(description="seconds between two signs of life of a training")
    grace: Count = Field(description="seconds without one after which a training of another machine counts as dead")
    retries: Whole = Field(description="of a training whose process died")

    def conflicts(self, path: str) -> Iterator[str]:
        if self.max_seeds < self.min_seeds and not self.folds:
            yield refused(f"{path}max_seeds", self.max_seeds, f"at least {path}min_seeds={self.min_seeds}")
        if self.grace <= self.heartbeat:
            yield refused(f"{path}grace", self.grace, f"more than {path}heartbeat={self.heartbeat}")


class Comparing(Section):
    """Everything that compare.py takes."""

    a: str | int | None = Field(description="one side: what train.py takes, in one text; or a tracked run's id")
    b: str | int | None = Field(description="the other side")
    metric: Text = Field(description="val/acc, val/loss, val/NAME of metrics, or test/acc, test/loss, test/NAME")
    compare: Compare = Field(description="how they are compared")
    tracking: Store = Field(description="where the runs are kept")

    def conflicts(self, path: str) -> Iterator[str]:
        if self.a is None or self.b is None:
            yield 'give two sides, such as a="model=mlp" b="model=mlp optimizer.lr=0.01", or a=RUN_ID b=RUN_ID'
