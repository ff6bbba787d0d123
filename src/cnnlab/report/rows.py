"""One line of a leaderboard, and the mean and spread of what its runs measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from cnnlab.report.authors import Target


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of the values there are; 0 deviation for a single one."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float:
        return statistics.stdev(self.values) if len(self.values) > 1 else 0.0

    @property
    def half_width(self) -> float:
        """Half of Student's 95 % interval for the mean; infinite for a single value, of whose error nothing is known.

        With three seeds it is 2.5 deviations, with five 1.2: a bare deviation looks surer than it is.
        """
        from scipy import stats  # --help must not wait for it

        number = len(self.values)
        if number < 2:
            return math.inf
        return float(stats.t.isf(0.025, number - 1)) * self.deviation / math.sqrt(number)


@dataclass(frozen=True)
class Row:
    """One configuration on one dataset and one kind of device, over its seeds.

    A spread is None where no run has the metric. `validations` are the validation accuracies by seed; `places` the best
    and the worst one that the row may have among those of its dataset, None without validation. `mixed` says what else
    is not the same in all its runs, `differing` which settings tell the row from others that look like it.
    """

    recipe: str
    changed: bool
    dataset: str
    model: str
    regularization: str
    parameters: int | None
    device: str
    seeds: tuple[str, ...]
    folds: tuple[str, ...]
    test_accuracy: Spread | None
    test_loss: Spread | None
    validation_accuracy: Spread | None
    epochs: Spread | None
    seconds: Spread | None
    target: Target | None
    validations: Mapping[str, float]
    places: tuple[int, int] | None
    mixed: tuple[str, ...]
    command: str
    run_ids: tuple[str, ...]
    settings: Mapping[str, str]
    differing: tuple[str, ...]

    @property
    def trainings(self) -> str:
        """How many seeds, and of how many folds each."""
        folds = f"{len(self.folds)} folds" if self.folds else ""
        if folds and len(self.seeds) == 1:
            return folds
        return f"{len(self.seeds)} x {folds}" if folds else str(len(self.seeds))

    @property
    def reached(self) -> bool | None:
        """Whether the mean is at least the author's number, within two standard deviations; for a goal without them."""
        if self.target is None:
            return None
        measured = self.validation_accuracy if self.target.split == "val" else self.test_accuracy
        if measured is None:
            return None
        # Metrics are 32-bit: 9,403 of 10,000 images are kept as .94029999. A split would need a million to notice this.
        allowance = 1e-6 + (0 if self.target.goal else 2 * measured.deviation)
        return measured.mean + allowance >= self.target.accuracy
