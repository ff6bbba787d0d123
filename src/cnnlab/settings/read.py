"""From composed values to checked sections: every problem at once, one line each, with what is allowed."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, Literal, TypeVar, Union, get_args, get_origin

import annotated_types
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Discriminator, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from cnnlab.errors import UsageError, one_line, refused, unknown
from cnnlab.settings.base import Says, Section, ToldBy
from cnnlab.settings.keys import belongs_to, keys, nearest_key, sections_of

Kind = TypeVar("Kind", bound=Section)
Form = object  # a type, as annotations write it


@dataclass(frozen=True)
class Examined(Generic[Kind]):
    """What came of reading: the settings, or the problems and the sections that have none."""

    settings: Kind | None
    problems: list[str]
    sections: Mapping[str, Section]


def resolve(config: DictConfig) -> dict[str, object]:
    """Return the configuration as plain dicts, lists and values, its interpolations filled in.

    Raises UsageError where an interpolation leads nowhere or a mandatory value is missing.
    """
    try:
        values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UsageError(f"configuration: {one_line(error)}") from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def as_yaml(section: Section) -> str:
    """Return the settings as the YAML text that is kept with a run."""
    return OmegaConf.to_yaml(OmegaConf.create(section.plain()))


def read(kind: type[Kind], values: Mapping[str, object], path: str = "") -> Kind:
    """Return the values as a section; `path` is its key in the configuration and a dot.

    Raises UsageError with one line for every unknown key, wrong type and value out of range.
    """
    examined = examine(kind, values, path)
    if examined.settings is None:
        raise UsageError(*examined.problems)
    return examined.settings


def examine(kind: type[Kind], values: Mapping[str, object], path: str = "") -> Examined[Kind]:
    """Return what `read` would, or all problems with those sections that have none, for checks that need only them."""
    try:
        settings = kind.model_validate(values)
    except ValidationError as error:
        problems: dict[str, str] = {}
        for entry in error.errors(include_url=False):
            key, line = _problem(kind, kind, values, entry["loc"], entry["type"], path)
            problems.setdefault(key, line)
        return Examined(None, list(problems.values()), dict(_fine_sections(kind, values)))
    conflicts = list(_conflicts(settings, path))
    return Examined(None if conflicts else settings, conflicts, dict(_own_sections(settings)))


def allowed(form: Form, metadata: Sequence[object] = ()) -> str:
    """Return in words what a type with its constraints takes."""
    if said := [item.allowed for item in metadata if isinstance(item, Says)]:
        return said[0]
    origin, arguments = get_origin(form), get_args(form)
    if origin is Annotated:
        return allowed(arguments[0], _unpacked(arguments[1:]))
    if origin in (Union, types.UnionType):
        return ", or ".join("null" if part is type(None) else allowed(part) for part in arguments)
    if origin is Literal:
        return ", ".join("null" if name is None else str(name) for name in arguments)
    if origin is list:
        return f"a list, each {allowed(arguments[0])}"
    if origin is tuple:
        each = allowed(arguments[0])
        return f"a list, each {each}" if arguments[-1] is Ellipsis else f"{len(arguments)} values, each {each}"
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    return names.get(typing.cast(type, form), "a value") + _range(form, _unpacked(metadata))


def names_of(form: Form) -> list[str]:
    """Return the names a field takes, where it takes names alone, also beside null."""
    origin, arguments = get_origin(form), get_args(form)
    if origin is Literal:
        return [str(name) for name in arguments]
    if origin is Annotated:
        return names_of(arguments[0])
    if origin in (Union, types.UnionType):
        parts = [part for part in arguments if part is not type(None)]
        return names_of(parts[0]) if len(parts) == 1 else []
    return []


def item_of(form: Form) -> Form | None:
    """Return what the items of a list may be, where a section is among it; None for lists of plain values."""
    if get_origin(form) is not tuple:
        return None
    item = get_args(form)[0]
    plain = get_args(item)[0] if get_origin(item) is Annotated else item
    return plain if sections_of(plain, ()) else None


def _range(form: Form, metadata: Sequence[object]) -> str:
    limits = []
    for item in metadata:
        if isinstance(item, annotated_types.Gt):
            limits.append(f"above {item.gt}")
        elif isinstance(item, annotated_types.Ge):
            limits.append(f"of at least {item.ge}")
        elif isinstance(item, annotated_types.Lt):
            limits.append(f"below {item.lt}")
        elif isinstance(item, annotated_types.Le):
            limits.append(f"at most {item.le}")
    return f" {' and '.join(limits)}" if limits else ""


def _unpacked(metadata: Sequence[object]) -> list[object]:
    """Return the constraints themselves: pydantic's Field carries several in one."""
    return [part for item in metadata for part in (item.metadata if isinstance(item, FieldInfo) else [item])]


def _problem(
    root: type[Section],
    kind: type[Section],
    values: object,
    location: tuple[int | str, ...],
    error: str,
    path: str,
) -> tuple[str, str]:
    """Return the key an error is about and its line: of a field as a whole, however deep inside a list it lies."""
    for depth, part in enumerate(location):
        fields = {field.alias or name: field for name, field in kind.model_fields.items()}
        key = f"{path}{part}"
        if error == "extra_forbidden" and depth == len(location) - 1:
            return key, _no_setting(root, key, fields)
        value = values.get(part) if isinstance(values, Mapping) else None
        rest = location[depth + 1 :]
        if str(part) not in fields:  # what a user adds under a key of their own is a section with a `_target_`
            if kind.added is None or not isinstance(value, Mapping) or "_target_" not in value:
                return key, _no_setting(root, key, fields)
            return _problem(root, kind.added, value, rest, error, f"{key}.")
        field = fields[str(part)]
        if error == "missing" and not rest:
            return key, f"{key} is missing"
        if rest and isinstance(rest[0], int) and (item := item_of(field.annotation)) is not None:
            return _item_problem(root, item, value, rest, error, key)
        choices = sections_of(field.annotation, field.metadata)
        if not choices:
            if rest and isinstance(value, list) and (names := names_of(get_args(field.annotation)[0])):
                return key, unknown(key, value[int(rest[0])], names)
            names = names_of(field.annotation)
            if names and not isinstance(value, bool | list | dict):
                return key, unknown(key, value, names)
            return key, refused(key, value, allowed(field.annotation, field.metadata))
        if value is None:
            return key, f"{key} is missing"
        if not rest or not isinstance(value, Mapping):  # no section at all, or none of the known ones
            told_by = [item.discriminator for item in field.metadata if isinstance(item, Discriminator)]
            if isinstance(value, Mapping) and told_by and isinstance(chooser := told_by[0], ToldBy):
                return key, unknown(f"{key}.{chooser.key}", value.get(chooser.key), chooser.names)
            return key, refused(key, value, "a section of keys")
        if len(choices) > 1 or "" not in choices:
            kind, skip = choices[str(rest[0])], 1
        else:
            kind, skip = choices[""], 0
        return _problem(root, kind, value, rest[skip:], error, f"{key}.")
    return path.rstrip("."), refused(path.rstrip("."), values, "a section of keys")


def _item_problem(
    root: type[Section], form: Form, values: object, location: tuple[int | str, ...], error: str, key: str
) -> tuple[str, str]:
    """Return the same for a list whose items are names, or sections of the user's own."""
    place, tag, *rest = location
    assert isinstance(values, Sequence) and isinstance(place, int)
    section = sections_of(form, ()).get(str(tag))
    item_key = f"{key}.{place}"
    if section is not None:
        return _problem(root, section, values[place], tuple(rest), error, f"{item_key}.")
    return item_key, unknown(key, values[place], [name for part in get_args(form) for name in names_of(part)])


def _no_setting(root: type[Section], key: str, known: Iterable[str]) -> str:
    hint = f"; {belonging}" if (belonging := belongs_to(root, key)) else nearest_key(key, keys(root))
    return f"{key} is no setting; allowed: {', '.join(known)}{hint}"


def _own_sections(section: Section) -> Iterator[tuple[str, Section]]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            yield name, value


def _conflicts(section: Section, path: str) -> Iterator[str]:
    yield from section.conflicts(path)
    for name, inner in _own_sections(section):
        yield from _conflicts(inner, f"{path}{name}.")


def _fine_sections(kind: type[Section], values: Mapping[str, object]) -> Iterator[tuple[str, Section]]:
    """Yield the sections of `values` that could be read, each by itself."""
    for name, field in kind.model_fields.items():
        if name in values and sections_of(field.annotation, field.metadata):
            try:
                yield name, TypeAdapter(field.rebuild_annotation()).validate_python(values[name])
            except ValidationError:
                continue
