"""One training, sweep or question as it was asked for: the composed configuration, and how it came about."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.conf import ConfigSourceInfo
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from cnnlab.start import CONF, typed


@dataclass(frozen=True)
class Job:
    """What was asked for, by a command line or by a call of the library.

    `overrides` are those of this one job, as Hydra takes them; `choices` the options chosen of each group; `command` as
    a shell takes it; `own_folder` the user's folder of configuration. `multirun` is the same for all jobs of one
    `train.py -m`. Pictures, tables and checkpoints go to `folder`.
    """

    config: DictConfig
    folder: Path
    overrides: tuple[str, ...]
    choices: Mapping[str, str]
    command: str
    own_folder: Path | None = None
    multirun: str | None = None


def job_of_hydra(config: DictConfig) -> Job:
    """Return the job that Hydra has composed for a command line."""
    hydra = HydraConfig.get()
    return Job(
        config=config,
        folder=Path(hydra.runtime.output_dir),
        overrides=_as_typed(hydra.overrides.task),
        choices=_chosen(hydra.runtime.choices),
        command=shlex.join([Path(sys.executable).name, *sys.argv]),
        own_folder=_own_folder(hydra.runtime.config_sources),
        multirun=hydra.sweep.dir if hydra.mode == RunMode.MULTIRUN else None,
    )


def compose_job(door: str, overrides: Sequence[str], own_folder: Path | None = None, folder: Path | None = None) -> Job:
    """Return the job of a call of the library; `folder` is a new one under outputs/ unless it is given.

    Raises what Hydra raises for overrides it cannot compose.
    """
    whole = compose_whole(door, overrides, own_folder)
    hydra = whole.hydra
    choices, task = _chosen(hydra.runtime.choices), _as_typed(hydra.overrides.task)
    config = whole.copy()
    with open_dict(config):
        del config["hydra"]
    own = [f"--config-dir={own_folder}"] if own_folder else []
    return Job(
        config=config,
        folder=(folder or Path(f"outputs/{datetime.now():%Y-%m-%d/%H-%M-%S-%f}")).absolute(),
        overrides=task,
        choices=choices,
        command=f"{typed(door)} {shlex.join([*own, *task])}".strip(),
        own_folder=own_folder,
    )


def compose_whole(door: str, overrides: Sequence[str], own_folder: Path | None = None) -> DictConfig:
    """Return the configuration of a command with Hydra's own section; raises what Hydra raises."""
    path = [search_path(own_folder)] if own_folder else []
    running = GlobalHydra.instance().hydra  # of a command line, or of the caller's own program
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose(door, [*overrides, *path], return_hydra_config=True)
    finally:
        GlobalHydra.instance().hydra = running


def search_path(own_folder: Path) -> str:
    """Return the override that adds a user's own folder of configuration."""
    escaped = str(own_folder.resolve()).replace("'", "\\'")
    return f"hydra.searchpath=['file://{escaped}']"


def _as_typed(overrides: list[str]) -> tuple[str, ...]:
    """Return overrides as they were given: an interpolation in one means the configuration, not Hydra's section."""
    given = OmegaConf.to_container(overrides, resolve=False)
    assert isinstance(given, list)
    return tuple(map(str, given))


def _chosen(choices: Mapping[str, object]) -> dict[str, str]:
    return {str(group): choice for group, choice in choices.items() if isinstance(choice, str)}


def _own_folder(sources: Sequence[ConfigSourceInfo]) -> Path | None:
    found = [source.path for source in sources if source.provider == "command-line"]
    return Path(found[0]) if found else None
