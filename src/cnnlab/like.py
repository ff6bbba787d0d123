"""A training that starts from another run's settings: like=RUN, and the command's own overrides on top.

The run's settings are plain values. What the command says wins: a group it chooses replaces that section, a key
replaces that key. Where the run had what the configuration would derive (`${...}`), the new run derives it anew.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import mlflow
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from mlflow.entities import Run
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnlab.compose import composing_error
from cnnlab.errors import UsageError, shown
from cnnlab.job import Job, compose_whole
from cnnlab.plan import read_training
from cnnlab.settings.base import Own, flatten
from cnnlab.settings.commands import Training
from cnnlab.settings.keys import section_class
from cnnlab.settings.read import resolve
from cnnlab.start import CONF
from cnnlab.tracking.find import find_run, kept_settings, open_client
from cnnlab.tracking.schema import Role, Tag

SECTIONS = {key for key, field in Training.model_fields.items() if key != "like"}
ELSEWHERE = ("tracking.uri",)  # belongs to the command
UNTOLD = ("like", "tracking")  # of what differs: where a run is kept
INTERPOLATION = "${"


@dataclass(frozen=True)
class Origin:
    """The run that a training starts from: its settings, and those it did not have yet."""

    run: Run
    settings: Mapping[str, object]
    added: Mapping[str, object]

    @property
    def tags(self) -> dict[str, str]:
        return {Tag.LIKE: self.run.info.run_id}

    def describe(self, settings: Training) -> list[str]:
        """Return in a line what differs from the run, and in another what it did not have."""
        name = f"like {self.run.info.run_id} ({self.run.info.run_name})"
        old, new = flatten(self.settings), settings.flat()
        differing = [
            f"{key} {shown(old[key]) if key in old else 'not set'} -> {shown(new[key]) if key in new else 'not set'}"
            for key in dict.fromkeys([*new, *old])
            if key.split(".")[0] not in UNTOLD and key not in self.added and old.get(key) != new.get(key)
        ]
        lines = [f"{name}: {', '.join(differing) or 'the same settings'}"]
        if self.added:
            values = ", ".join(f"{key}={shown(value)}" for key, value in self.added.items())
            lines.append(f"{name} is of an older version, what it did not have is as today: {values}")
        return lines


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


def start(job: Job) -> tuple[Job, Training, Origin | None]:
    """Return a job of train.py and its settings, and where they are like another run's, those under them and that run.

    Raises UsageError for a run that is not there or keeps no settings, and with every problem of the settings.
    """
    wanted = OmegaConf.select(job.config, "like")
    if wanted is None:
        return job, read_training(resolve(job.config)), None
    if "experiment" in job.choices:
        raise UsageError(f"like={wanted} and experiment={job.choices['experiment']} both say where to start; give one")
    client = open_client(str(OmegaConf.select(job.config, "tracking.uri")))
    run = find_run(client, str(wanted), key="like", besides=job.multirun)
    asked = f"like={run.info.run_id}"
    parsed = OverridesParser.create().parse_overrides([item for item in job.overrides if not item.startswith("like=")])
    command = Command(
        frozenset(item.key_or_group for item in parsed if _is_group(item)),
        tuple(item.key_or_group for item in parsed if not _is_group(item)),
    )
    old = settings_of(client, run, job)
    fresh = _compose(asked, [*_choices(run, old, command, job), *_text(parsed)], job)
    # A sweep names its runs itself.
    elsewhere = (*ELSEWHERE, "tracking.run_name") if Tag.ROLE in run.data.tags else ELSEWHERE
    merged, added = merge(old, fresh, command, elsewhere)
    merged["like"] = run.info.run_id
    config = OmegaConf.create(merged)
    settings = read(asked, resolve(config), old, command)
    pinned = tuple(_pinned(item, asked) for item in job.overrides)
    words = shlex.join(_pinned(item, asked) for item in shlex.split(job.command))
    return replace(job, config=config, overrides=pinned, command=words), settings, Origin(run, old, added)


def settings_of(client: mlflow.MlflowClient, run: Run, job: Job) -> dict[str, object]:
    """Return a run's settings as plain values; of a sweep's trial, which keeps no file, as its overrides give them.

    Raises UsageError where it keeps neither.
    """
    asked = f"like={run.info.run_id}"
    kept = kept_settings(client, run)
    if kept is None and run.data.tags.get(Tag.ROLE) == Role.TRIAL and Tag.OVERRIDES in run.data.tags:
        overrides = [item for item in overrides_of(run) if not item.startswith("hydra")]
        kept = resolve(OmegaConf.create(_compose(asked, overrides, job)))
    if kept is None:
        raise UsageError(f"{asked} ({run.info.run_name}, {run.info.status}) keeps no settings; take a run of train.py")
    return {key: value for key, value in kept.items() if key != "like"}


def overrides_of(run: Run) -> list[str]:
    """Return a run's overrides; the folder of their configuration that its user named belongs to another command."""
    return [item for item in shlex.split(run.data.tags.get(Tag.OVERRIDES, "")) if not item.startswith("--")]


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
            added |= {} if key in command.groups or key == "like" else flatten({key: fresh[key]})
            continue
        before, today = flatten({key: old[key]}), flatten({key: fresh[key]}) if key in fresh else {}
        leaves = {path: value for path, value in today.items() if command.says(path)}
        leaves |= {
            path: today[path] if path in elsewhere and path in today else _kept(path, value, today.get(path), old)
            for path, value in before.items()
            if not command.says(path)
        }
        if _same_kind(key, old[key], fresh.get(key)):
            missing = {path: value for path, value in today.items() if not _known(path, [*before, *leaves])}
            leaves, added = leaves | missing, added | missing
        merged |= _nested(leaves) if leaves else {key: {}}
    return merged, added


def read(asked: str, values: Mapping[str, object], old: Mapping[str, object], command: Command) -> Training:
    """Return the merged values as settings.

    Raises UsageError for code that only the run names, and with every problem, saying which come from the run.
    """
    problems = [
        f"{asked} was trained with code of somebody's own, {path}={shown(value)}, and nothing that a run names is "
        f"called; if you trust it, name it again: {path}={value} (or {path.split('.')[0]}=NAME, if it has a file)"
        for path, value in named_code(values)
        if not command.names(path)
    ]
    if problems:
        raise UsageError(*problems)
    kept = flatten(old)
    try:
        return read_training(values)
    except UsageError as error:
        for line in error.problems:
            key = re.split(r"[= ]", line, maxsplit=1)[0]
            theirs = _known(key, kept) and not command.says(key)
            problems.append(f"{asked}, which may be of another version: {line}" if theirs else line)
        raise UsageError(*problems) from error


def named_code(values: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield the path and value of every `_target_`, however deep; of one inside a list, the path of the list."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from [(f"{path}{key}", value)] if key == "_target_" else named_code(value, f"{path}{key}.")
    elif isinstance(values, Sequence) and not isinstance(values, str):
        for item in values:
            yield from ((path.rstrip("."), value) for _, value in named_code(item))


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
    if isinstance(value, str):
        return value.replace(INTERPOLATION, f"\\{INTERPOLATION}")
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


def _known(path: str, paths: Sequence[str] | Mapping[str, object]) -> bool:
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


def _choices(run: Run, old: Mapping[str, object], command: Command, job: Job) -> list[str]:
    """Return overrides that choose the run's groups, as far as they are still options: for what the run lacks."""
    found: dict[str, str] = {}
    for item in OverridesParser.create().parse_overrides(overrides_of(run)):
        if _is_group(item) and item.key_or_group in SECTIONS:
            found[item.key_or_group] = str(item.value())
    folders = [CONF, *([job.own_folder] if job.own_folder else [])]
    chosen = []
    for group in SECTIONS - command.groups:
        section = old.get(group)
        name = section.get("name") if isinstance(section, Mapping) else None
        for option in (found.get(group), name):
            if option and any((folder / group / f"{option}.yaml").is_file() for folder in folders):
                chosen.append(f"{group}={option}")
                break
    return sorted(chosen)


def _is_group(item: Override) -> bool:
    """Return whether an override chooses an option of a group, and not a value."""
    return item.key_or_group in Training.model_fields and _has_options(item.key_or_group) and not _is_value(item)


def _has_options(key: str) -> bool:
    return (CONF / key).is_dir()


def _is_value(item: Override) -> bool:
    return isinstance(item.value(), dict) or item.is_force_add()


def _text(parsed: Sequence[Override]) -> list[str]:
    return [str(item.input_line) for item in parsed]


def _compose(asked: str, overrides: Sequence[str], job: Job) -> dict[str, object]:
    """Return the training configuration of some overrides as plain values, its interpolations as they are."""
    try:
        config: DictConfig = compose_whole("train", overrides, job.own_folder)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise UsageError(f"{asked}: {composing_error(error, 'train')}") from error
    values = OmegaConf.to_container(config, resolve=False)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items() if key != "hydra"}


def _pinned(item: str, asked: str) -> str:
    """Return an argument as it can be typed again: best and last are others tomorrow."""
    if re.fullmatch(r"like=(?!.*,).*", item):
        return asked
    return item.removeprefix("++")
