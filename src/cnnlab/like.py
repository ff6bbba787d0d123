"""A training that starts from another run's settings: like=RUN, and the command's own overrides on top.

The run's settings are plain values. What the command says wins: a group it chooses replaces that section, a key
replaces that key. Where the run had what the configuration would derive (`${...}`), the new run derives it anew.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import mlflow
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from mlflow.entities import Run
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnlab import process
from cnnlab.compose import composing_error
from cnnlab.errors import UsageError, shown
from cnnlab.job import Job, compose_whole
from cnnlab.plan import Plan, read_training
from cnnlab.settings.base import flatten
from cnnlab.settings.commands import Training
from cnnlab.settings.merging import ELSEWHERE, Command, known, merge, targets
from cnnlab.settings.read import resolve
from cnnlab.start import CONF
from cnnlab.tracking.find import find_run, kept_settings, open_client
from cnnlab.tracking.schema import Role, Tag

KEY = "like"
SOURCES = (KEY, "resume")  # of settings; each run has its own
SECTIONS = set(Training.model_fields) - {*SOURCES}
UNTOLD = (*SOURCES, "tracking")  # of what differs: where a run is kept


@dataclass(frozen=True)
class Origin:
    """The run that a training starts from: its settings, and those it did not have yet."""

    run: Run
    settings: Mapping[str, object]
    added: Mapping[str, object]

    @property
    def tags(self) -> dict[str, str]:
        return {Tag.LIKE: self.run.info.run_id}

    def describe(self, plan: Plan, asked: Training) -> list[str]:
        """Return in a line what differs from the run, and in another what it did not have.

        `asked` are the settings as they were read, with the `auto` that those of the plan have not any more.
        """
        settings = plan.settings
        name = f"like {self.run.info.run_id} ({self.run.info.run_name})"
        old, new, wanted = flatten(self.settings), settings.flat(), asked.flat()
        differing = [
            f"{key} {shown(old[key]) if key in old else 'not set'} -> {shown(new[key]) if key in new else 'not set'}"
            for key in dict.fromkeys([*new, *old])
            if key.split(".")[0] not in UNTOLD and key not in self.added
            if old.get(key) not in (new.get(key), wanted.get(key))
        ]
        lines = [f"{name}: {', '.join(differing) or 'the same settings'}"]
        before, now = self.run.data.tags.get(Tag.THREADS, ""), str(process.own_threads())
        if settings.threads is None and before not in ("", now):
            lines.append(
                f"{name} had {before} CPU threads, this one has {now}: threads={before} repeats it bit for bit"
            )
        if self.added:
            values = ", ".join(f"{key}={shown(value)}" for key, value in self.added.items())
            lines.append(f"{name} is of an older version, what it did not have is as today: {values}")
        return lines


def start(job: Job) -> tuple[Job, Training, Origin | None]:
    """Return a job of train.py and its settings, and where they are like another run's, those under them and that run.

    Raises UsageError for a run that is not there or keeps no settings, and with every problem of the settings.
    """
    wanted = OmegaConf.select(job.config, KEY)
    if wanted is None:
        return job, read_training(resolve(job.config)), None
    refuse_experiment(job, KEY, wanted)
    client = open_client(str(OmegaConf.select(job.config, "tracking.uri")))
    run = find_run(client, str(wanted), key=KEY, besides=job.multirun)
    return under(client, run, job, KEY)


def refuse_experiment(job: Job, key: str, wanted: object) -> None:
    """Raise UsageError where a command that starts from a run chooses an experiment too."""
    if "experiment" in job.choices:
        raise UsageError(f"{key}={wanted} and experiment={job.choices['experiment']} both say where to start; give one")


def under(client: mlflow.MlflowClient, run: Run, job: Job, key: str) -> tuple[Job, Training, Origin]:
    """Return a job that names the run as `key`, with the run's settings under its own; those settings; and the run.

    Raises UsageError for a run that keeps no settings, and with every problem of the settings.
    """
    asked = f"{key}={run.info.run_id}"
    parsed = OverridesParser.create().parse_overrides(
        [item for item in job.overrides if not item.startswith(f"{key}=")]
    )
    command = Command(
        frozenset(item.key_or_group for item in parsed if _is_group(item)),
        tuple(item.key_or_group for item in parsed if not _is_group(item)),
    )
    old = settings_of(client, run, job, asked)
    fresh = _compose(asked, [*_choices(run, old, command, job), *_text(parsed)], job)
    # A sweep names its runs itself.
    elsewhere = (*ELSEWHERE, "tracking.run_name") if Tag.ROLE in run.data.tags else ELSEWHERE
    merged, added = merge(old, fresh, command, elsewhere)
    merged[key] = run.info.run_id
    config = OmegaConf.create(merged)
    settings = read(asked, resolve(config), old, command)
    pinned = tuple(_pinned(item, asked) for item in job.overrides)
    words = shlex.join(_pinned(item, asked) for item in shlex.split(job.command))
    return replace(job, config=config, overrides=pinned, command=words), settings, Origin(run, old, added)


def settings_of(client: mlflow.MlflowClient, run: Run, job: Job, asked: str) -> dict[str, object]:
    """Return a run's settings as plain values; of a sweep's trial, which keeps no file, as its overrides give them.

    Raises UsageError, calling it `asked`, where it keeps neither.
    """
    kept = kept_settings(client, run)
    if kept is None and run.data.tags.get(Tag.ROLE) == Role.TRIAL and Tag.OVERRIDES in run.data.tags:
        overrides = [item for item in overrides_of(run) if not item.startswith("hydra")]
        kept = resolve(OmegaConf.create(_compose(asked, overrides, job)))
    if kept is None:
        raise UsageError(f"{asked} ({run.info.run_name}, {run.info.status}) keeps no settings; take a run of train.py")
    return {key: value for key, value in kept.items() if key not in SOURCES}


def overrides_of(run: Run) -> list[str]:
    """Return a run's overrides; the folder of their configuration that its user named belongs to another command."""
    return [item for item in shlex.split(run.data.tags.get(Tag.OVERRIDES, "")) if not item.startswith("--")]


def read(asked: str, values: Mapping[str, object], old: Mapping[str, object], command: Command) -> Training:
    """Return the merged values as settings.

    Raises UsageError for code that only the run names, and with every problem, saying which come from the run.
    """
    problems = [
        f"{asked} was trained with code of somebody's own, {path}={shown(target)}, and nothing that a run names is "
        f"called; if you trust it, name it again: {_naming(path, target)}"
        for path, target in targets(values)
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
            theirs = known(key, kept) and not command.says(key)
            problems.append(f"{asked}, which may be of another version: {line}" if theirs else line)
        raise UsageError(*problems) from error


def _naming(path: str, target: object) -> str:
    """Return how a command gives a `_target_` itself; of a list's items only the whole list can be given."""
    section, *parts = path.split(".")
    for place, part in enumerate(parts):
        if part.isdigit():
            return f"{'.'.join([section, *parts[:place]])}=[...]"
    return f"{path}={target} (or {section}=NAME, if it has a file)"


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
    if re.fullmatch(rf"{asked.partition('=')[0]}=(?!.*,).*", item):
        return asked
    return item.removeprefix("++")
