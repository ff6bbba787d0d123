"""The keys of all settings, as one writes them on the command line."""

from __future__ import annotations

import types
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Annotated, Union, get_args, get_origin

from pydantic import Discriminator, Tag
from pydantic.fields import FieldInfo

from cnnlab.settings.base import Section, ToldBy

UNNAMED = ("archive", "own")  # classes of options that have names of their own
NEAR = 0.6  # of difflib's ratio


def keys(kind: type[Section], path: str = "") -> list[str]:
    """Return the keys of all settings of a section, of each kind that it may be, and of the sections in it."""
    found: dict[str, None] = {}
    for name, field in kind.model_fields.items():
        found[f"{path}{field.alias or name}"] = None
        for section in sections_of(field.annotation, field.metadata).values():
            found |= dict.fromkeys(keys(section, f"{path}{name}."))
    return list(found)


def belongs_to(kind: type[Section], key: str) -> str:
    """Return `dataset.path belongs to dataset=image_folder` for a key that other options of a group have, or nothing.

    Where options share a class and not its name, as networks do, also what they have in common.
    """
    group, _, rest = key.partition(".")
    field = kind.model_fields.get(group)
    choices = sections_of(field.annotation, field.metadata) if field is not None and rest else {}
    having = [tag for tag, section in choices.items() if rest in keys(section)]
    if field is None or not having or having == [""]:
        return ""
    if len(having) == len(choices):
        return f"{key} needs {group}=NAME beside it"
    if not (named := [tag for tag in having if tag not in UNNAMED]):
        return ""
    told_by = [item.discriminator for item in field.metadata if isinstance(item, Discriminator)]
    shared = [item.key for item in told_by if isinstance(item, ToldBy) and item.key != "name"]
    also = f" (or another of {group}.{shared[0]}={' or '.join(named)})" if shared else ""
    return f"{key} belongs to {' or '.join(f'{group}={tag}' for tag in named)}{also}"


def nearest_key(key: str, known: list[str]) -> str:
    """Return `; did you mean 'trainer.max_epochs'?` for the key that is nearest as a whole or by its last part."""

    def likeness(other: str) -> float:
        def last(name: str) -> str:
            return name.rsplit(".", 1)[-1]

        whole = SequenceMatcher(None, key, other).ratio()
        return max(whole, SequenceMatcher(None, last(key), last(other)).ratio())

    best = max(known, key=likeness)
    return f"; did you mean '{best}'?" if likeness(best) >= NEAR else ""


def sections_of(form: object, metadata: Sequence[object]) -> dict[str, type[Section]]:
    """Return the section classes a field takes by their tags, '' where there is but one; none for a plain field."""
    if isinstance(form, type) and issubclass(form, Section):
        return {"": form}
    origin, arguments = get_origin(form), get_args(form)
    found: dict[str, type[Section]] = {}
    if origin is Annotated:
        tags = [item.tag for item in arguments[1:] if isinstance(item, Tag)]
        for inner in sections_of(arguments[0], ()).values():
            found[tags[0] if tags else ""] = inner
    elif origin in (Union, types.UnionType):
        for part in arguments:
            found |= sections_of(part, ())
    return found


def section_class(field: FieldInfo, value: object) -> type[Section] | None:
    """Return the class that reads a section with this value; None for a plain field."""
    choices = sections_of(field.annotation, field.metadata)
    if "" in choices or not choices:
        return choices.get("")
    for item in field.metadata:
        if isinstance(item, Discriminator) and isinstance(item.discriminator, ToldBy):
            return choices.get(str(item.discriminator(value)), next(iter(choices.values())))
    return None
