"""A run's plain settings under what a command says: which value wins, key by key."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnlab.settings.base import Own, flatten
from cnnlab.settings.commands import Training
from cnnlab.settings.keys import section_class

ELSEWHERE = ("tracking.uri",)  # belongs to the command
INTERPOLATION = "${"


@dataclass(frozen=True)
class Command:
    """What a command line says by itself: the groups it chooses and the keys it gives."""

    groups: frozenset[str]
    keys: tuple[str, ...]

    def says(self, path: str) -> bool:
        """Return whether the command decides about a setting, or about a part of it."""
        return path.split(".")[0] in self.groups or any(
            path == key or path.startswith(f"{key}.") or key.startswith(f"{path}.") for key in self.keys
        )

    def names(self, path: str) -> bool:
        """Return whether the command gives a setting itself."""
        return path.split(".")[0] in self.groups or any(path == key or path.startswith(f"{key}.") for key in self.keys)


def merge(
    old: Mapping[str, object],
    fresh: Mapping[str, object],
    command: Command,
    elsewhere: Sequence[str] = ELSEWHERE,
) -> tuple[dict[str, object], dict[str, object]]:
    """Return the settings of the run `old` under those the command gives, and what `old` did not have yet.

    `fresh` is the command's own configuration with its interpolations, and all there is of the keys `elsewhere`.
    Whatever stands in `old` is text and numbers: an interpolation in it stays the text it is.
    """
    merged: dict[str, object] = {}
    added: dict[str, object] = {}
    for key in dict.fromkeys([*fresh, *old]):
        if key in command.groups or key not in old:
            merged |= {key: fresh[key]} if key in fresh else {}
            added |= {} if key in command.groups or key in ("like", "resume") else flatten({key: fresh[key]})
            continue
        before, today = flatten({key: old[key]}), flatten({key: fresh[key]}) if key in fresh else {}
        leaves = {path: value for path, value in today.items() if command.says(path)}
        leaves |= {
            path: today[path] if path in elsewhere and path in today else _kept(path, value, today.get(path), old)
            for path, value in before.items()
            if not command.says(path)
        }
        if _same_kind(key, old[key], fresh.get(key)):
            missing = {path: value for path, value in today.items() if not known(path, [*before, *leaves])}
            leaves, added = leaves | missing, added | missing
        merged |= _nested(leaves) if leaves else {key: {}}
    return merged, added


def targets(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield every `_target_` in some settings, however deep in sections and lists, by its key."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key == "_target_":
                yield f"{path}{key}", item
            yield from targets(item, f"{path}{key}.")
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for place, item in enumerate(value):
            yield from targets(item, f"{path}{place}.")


def _kept(path: str, value: object, today: object, old: Mapping[str, object]) -> object:
    """Return what becomes of one of the run's values, where the command says nothing."""
    if isinstance(today, str) and INTERPOLATION in today:
        context = OmegaConf.create({key: _escaped(part) for key, part in old.items()})
        try:
            OmegaConf.update(context, path, today)
            derived = OmegaConf.select(context, path)
        except OmegaConfBaseException:
            derived = None
        moved = path == "dataset.root" and not Path(str(value)).expanduser().is_dir()
        if moved or derived == value:
            return today
    return _escaped(value)


def _escaped(value: object) -> object:
    """Return a value that OmegaConf reads as the text it is; backslashes that stand before `${` count there."""
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    if isinstance(value, Mapping):
        return {key: _escaped(item) for key, item in value.items()}
    return [_escaped(item) for item in value] if isinstance(value, list) else value


def _same_kind(key: str, old: object, fresh: object) -> bool:
    """Return whether a section is of the same class in both, so that what one lacks can come from the other."""
    field = Training.model_fields.get(key)
    if field is None or not isinstance(old, Mapping) or not isinstance(fresh, Mapping):
        return False
    kind = section_class(field, fresh)
    return kind is not None and kind is not Own and kind is section_class(field, old)


def known(path: str, paths: Sequence[str] | Mapping[str, object]) -> bool:
    """Return whether a key, a part of it or the whole it belongs to is among `paths`."""
    return any(path == other or path.startswith(f"{other}.") or other.startswith(f"{path}.") for other in paths)


def _nested(leaves: Mapping[str, object]) -> dict[str, object]:
    tree: dict[str, object] = {}
    for path, value in leaves.items():
        node = tree
        *parents, last = path.split(".")
        for name in parents:
            inner = node.get(name)
            if not isinstance(inner, dict):
                inner = node[name] = {}
            node = inner
        node[last] = value
    return tree
