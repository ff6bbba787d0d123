"""A trial as a story that stops at each of its trainings: told alone, or side by side with others."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

import torch

from cnnlab.last_checkpoint import State
from cnnlab.plan import Plan
from cnnlab.sweeps.watch import Watch
from cnnlab.tracking.run import FreeSpace
from cnnlab.training import fit

Value = TypeVar("Value")


@dataclass(frozen=True)
class Together:
    """What trials share that are told side by side: their number, and the disk space held for their last words."""

    number: int
    reserve: FreeSpace


@dataclass(frozen=True, eq=False)
class Fitting:
    """A training that waits to be fitted; `numbers` is the state of torch's generator with which it begins."""

    plan: Plan
    watch: Watch
    state: State | None
    numbers: torch.Tensor
    around: Callable[[], AbstractContextManager[None]]

    def alone(self) -> float:
        """Fit it, and return the seconds that took."""
        with self.around():
            return fit(self.plan, [self.watch], self.state)


Story = Generator[Fitting, float, Value]


def alone(story: Story[Value]) -> Value:
    """Fit the trainings of a story one after the other, and return what it returns."""
    try:
        fitting = next(story)
        while True:
            try:
                seconds = fitting.alone()
            except BaseException as error:
                fitting = story.throw(error)
            else:
                fitting = story.send(seconds)
    except StopIteration as end:
        return end.value
