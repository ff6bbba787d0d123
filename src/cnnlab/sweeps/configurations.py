"""The training configuration as the values of a trial change it, whole options of a group included.

Another option of a group brings other keys (`optimizer.momentum` is sgd's alone), so Hydra composes the command again
with it: once for each combination of options, which takes some hundredths of a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from cnnlab.compose import composing_error
from cnnlab.errors import UsageError
from cnnlab.job import compose_whole
from cnnlab.sweeps.repeat import training_overrides, with_options
from cnnlab.sweeps.space import apply

OF_THE_SWEEP = ("seed", "tracking")  # what does not come with an option


@dataclass(frozen=True)
class Configurations:
    """The configuration of a command, and what it is under other options of its groups.

    `overrides` are those of the command, `own_folder` the user's own folder of configuration, `chosen` the option
    that the command has of each group that may be searched.
    """

    config: DictConfig
    overrides: tuple[str, ...] = ()
    own_folder: Path | None = None
    chosen: Mapping[str, str] = field(default_factory=dict)
    composed: dict[tuple[tuple[str, str], ...], DictConfig] = field(default_factory=dict)

    @property
    def groups(self) -> tuple[str, ...]:
        return tuple(self.chosen)

    def options(self, values: Mapping[str, object]) -> dict[str, str]:
        """Return those of the values that are options of a group."""
        return {key: str(value) for key, value in values.items() if key in self.groups}

    def under(self, options: Mapping[str, str]) -> DictConfig:
        """Return the configuration with these options; raises UsageError where Hydra cannot compose it."""
        if not options:
            return self.config
        key = tuple(sorted(options.items()))
        if key not in self.composed:
            overrides = [item for item in training_overrides(self.overrides) if not item.startswith("-")]
            try:
                whole = compose_whole("train", with_options(overrides, options), self.own_folder)
            except HydraException as error:
                chosen = " ".join(f"{group}={option}" for group, option in options.items())
                raise UsageError(f"search allows {chosen}, but {composing_error(error, 'train')}") from error
            kept = {name: self.config[name] for name in OF_THE_SWEEP if name in self.config}
            nodes = {str(name): node for name, node in whole.items_ex(resolve=False) if name in self.config}
            self.composed[key] = OmegaConf.create(nodes | kept)
        return self.composed[key]

    def having(self, values: Mapping[str, object]) -> DictConfig:
        """Return a copy of the configuration with these values; keys may name one item of a list (model.filters.0)."""
        options = self.options(values)
        return apply(self.under(options), {key: value for key, value in values.items() if key not in options})
