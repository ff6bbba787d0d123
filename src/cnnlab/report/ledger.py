"""How often each test split was read, and what that many looks can have gained by chance."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from cnnlab.report.leaderboard import SHORT
from cnnlab.tracking.ledger import Reading

NOTE = (
    "By chance: sqrt(log k / 2n) for k settings and n test images, what the best of k equally good settings is "
    "expected to gain at most over a new test split (the expected maximum of k sub-Gaussian means, here of n values "
    "from 0 to 1: Boucheron, Lugosi and Massart, Concentration Inequalities, 2013, Theorem 2.5)."
)


@dataclass(frozen=True)
class Account:
    """All readings of one test split of `images`: how many, and by how many different settings."""

    name: str
    readings: int
    settings: int
    images: int

    @property
    def gain(self) -> float | None:
        """What the accuracy of the best can owe to chance; None where nobody says how many images there are."""
        return math.sqrt(math.log(self.settings) / (2 * self.images)) if self.images else None

    def __str__(self) -> str:
        read = "once" if self.readings == 1 else f"{self.readings:,} times"
        by = f"{self.settings:,} setting{'s'[: self.settings > 1]}"
        if self.settings == 1:
            gained = "nothing was chosen by it"
        elif self.gain is None:
            gained = "of how many images is not known"
        else:
            gained = f"choosing by it can have gained {self.gain:.4f} by chance"
        return f"{self.name} test split: read {read} by {by}; {gained}"


def accounts(readings: Iterable[Reading], dataset: str | None = None) -> list[Account]:
    """Return the account of each test split, by name, of one `dataset` if it is given.

    Test splits are told apart by what is in them. Older runs know the whole dataset's digest alone: they join the split
    that newer ones found in that dataset.
    """
    readings = [reading for reading in readings if dataset in (None, reading.dataset)]
    tests = {reading.data: reading.test for reading in readings if reading.test}
    found: dict[tuple[str, str], list[Reading]] = defaultdict(list)
    for reading in readings:
        found[reading.dataset, reading.test or tests.get(reading.data, reading.data)].append(reading)
    names = [name for name, _ in found]
    kept = []
    for (name, digest), group in sorted(found.items()):
        shown = name if names.count(name) == 1 else f"{name} ({digest[:SHORT] or 'unknown'})"
        settings = len({reading.settings for reading in group})
        kept.append(Account(shown, len(group), settings, max(reading.images for reading in group)))
    return kept
