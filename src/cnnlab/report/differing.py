"""In which settings rows of a leaderboard differ that would look the same without them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence

from cnnlab.settings.commands import ALWAYS_WAS, FOLD, KEPT_APART, PLACES

# A warm start counts: the name of its run is what tells it from another.
APART = {*PLACES, FOLD, *KEPT_APART} - {"init_from"}
NAME = ".name"


def text_of(value: object) -> str:
    """Return a setting as the command line takes it; the store keeps what Python prints."""
    text = str(value).replace(" ", "").replace("'", "").replace('"', "")
    if text in ("None", "True", "False"):
        return {"None": "null", "True": "true", "False": "false"}[text]
    try:
        return text if text.lstrip("-").isdigit() else f"{float(text):g}"
    except ValueError:
        return text


def chosen(parameters: Mapping[str, str]) -> dict[str, str]:
    """Return which of a run's parameters say what was trained; an older run's as today's would be called."""
    known: dict[str, object] = {**ALWAYS_WAS, **parameters} if parameters else {}
    return {key: text_of(value) for key, value in known.items() if not _is_apart(key)}


def differing(rows: Sequence[tuple[Hashable, Mapping[str, str]]]) -> list[tuple[str, ...]]:
    """Return for each row those of its settings, as `key=value`, that others that look like it do not all have.

    A row is what it looks like, and its settings. Where the name of a section differs, as optimizer.name does, that
    stands for what belongs to it.
    """
    alike: dict[Hashable, list[int]] = defaultdict(list)
    for number, (look, settings) in enumerate(rows):
        if settings:  # a run that kept none says nothing
            alike[look].append(number)
    found: list[tuple[str, ...]] = [()] * len(rows)
    for numbers in alike.values():
        keys = _differing_keys([rows[number][1] for number in numbers])
        for number in numbers:
            settings = rows[number][1]
            found[number] = tuple(f"{_shown(key)}={settings[key]}" for key in keys if key in settings)
    return found


def _differing_keys(several: Sequence[Mapping[str, str]]) -> list[str]:
    keys = []
    for key in dict.fromkeys(key for settings in several for key in settings):
        named = f"{key.partition('.')[0]}{NAME}"
        groups: dict[str | None, set[str | None]] = defaultdict(set)
        for settings in several:
            groups[settings.get(named) if key != named else None].add(settings.get(key))
        if any(len(values) > 1 for values in groups.values()):
            keys.append(key)
    return keys


def _shown(key: str) -> str:
    """Return a key as one writes it: `optimizer=sgd` chooses the section of that name."""
    return key.removesuffix(NAME) if key.count(".") == 1 else key


def _is_apart(key: str) -> bool:
    return key in APART or key.partition(".")[0] in APART
