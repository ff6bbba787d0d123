"""Checks of what a user may write under `model`: values come from YAML and may be of any type."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeGuard

from cnnlab.errors import UsageError, unknown


class Options:
    """Reads option values one by one and remembers every problem, so that all are reported together.

    A value that is refused reads as a harmless stand-in; `check` must pass before the results are used.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []

    def check(self) -> None:
        """Raise `UsageError` with every problem met so far."""
        if self.problems:
            raise UsageError(*self.problems)

    def name(self, key: str, value: object, allowed: Iterable[str]) -> str:
        """Return one of the `allowed` names."""
        names = list(allowed)
        if isinstance(value, str) and value in names:
            return value
        self.problems.append(unknown(key, value, names))
        return names[0]

    def rate(self, key: str, value: object) -> float:
        """Return a share of units to drop: a number of at least 0 and below 1."""
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1:
            return float(value)
        self.problems.append(f"{key}={shown(value)}: must be a number of at least 0 and below 1")
        return 0.0

    def widths(self, key: str, value: object, *, empty: bool) -> list[int]:
        """Return a list of whole numbers >= 1, one a layer; `empty` says whether it may have none."""
        if is_list(value) and all(is_whole(item, 1) for item in value) and (empty or value):
            return [int(item) for item in value]
        example = f"[{value}]" if is_whole(value, 1) else "[32, 64]"
        none = ", or [] for none" if empty else ""
        self.problems.append(f"{key}={shown(value)}: must be a list of whole numbers >= 1, such as {example}{none}")
        return []

    def per_layer(self, key: str, value: object, layers: int, *, optional: bool = False) -> list[int]:
        """Return one whole number a layer, from a number for all or a list; where `optional`, 0 or null mean none."""
        # Without a valid model.filters there are no layers to count, but the value itself can still be judged.
        items = list(value) if is_list(value) else [value] * max(layers, 1)
        sizes = [item or 0 for item in items if is_whole(item, 0 if optional else 1) or (optional and item is None)]
        number = "a whole number >= 1, 0 or null" if optional else "a whole number >= 1"
        allowed = f"must be {number}, or a list with one for each of model.filters"
        if len(sizes) < len(items):
            self.problems.append(f"{key}={shown(value)}: {allowed}")
        elif layers and len(sizes) != layers:
            self.problems.append(f"{key}={shown(value)}: {len(sizes)} given for {layers} filters; {allowed}")
        return sizes


def is_list(value: object) -> TypeGuard[Sequence]:
    """Return whether `value` is a list, plain or OmegaConf's, and not a text."""
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def is_whole(value: object, least: int) -> TypeGuard[int]:
    """Return whether `value` is a whole number of at least `least`; YAML's true and false are not numbers."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def shown(value: object) -> str:
    """Return `value` as one writes it on the command line."""
    if is_list(value):
        return "[" + ", ".join(shown(item) for item in value) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
