"""What all trainings of a worker have in common: configuration, data in memory, and how a failure is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path

import optuna
from omegaconf import DictConfig

from cnnlab.data import load
from cnnlab.data.images import ImageData
from cnnlab.errors import DatabaseHeld, DiskFull, database_is_held, described, disk_is_full, one_line
from cnnlab.settings.base import digest
from cnnlab.settings.dataset import Dataset
from cnnlab.sweeps.configurations import Configurations
from cnnlab.sweeps.repeat import repeating, with_options
from cnnlab.sweeps.study import REASON
from cnnlab.tracking.provenance import code_tags, machine_tags
from cnnlab.weights import WeightsCache


class DatasetCache:
    """Loads each dataset once and keeps it; without its test split, unless `test` says otherwise."""

    def __init__(self, *, test: bool):
        self.test = test
        self.loaded: dict[str, ImageData] = {}

    def __call__(self, dataset: Dataset) -> ImageData:
        key = digest({name: value for name, value in dataset.plain().items() if name != "scaling"})
        if key not in self.loaded:
            data = load(dataset)
            if not self.test and not data.sealed:
                data = replace(data, test_images=data.test_images[:0], test_labels=data.test_labels[:0])
            self.loaded[key] = data
        return self.loaded[key]


@cache
def place_tags(device: str) -> dict[str, str]:
    """Return where and from which code this process computes: of each trial the same, and asked for once."""
    return code_tags(Path.cwd()) | machine_tags(device)


@dataclass(frozen=True)
class Setup:
    """What all trainings of a worker have in common; `overrides` are those of the sweep's command."""

    config: DictConfig
    overrides: tuple[str, ...]
    parent_run: str
    data: DatasetCache
    folder: Path
    weights: WeightsCache = field(default_factory=WeightsCache)
    own_folder: Path | None = None
    chosen: Mapping[str, str] = field(default_factory=dict)  # the command's option of each group that may be searched

    @cached_property
    def configurations(self) -> Configurations:
        return Configurations(self.config, self.overrides, self.own_folder, self.chosen)

    def configured(self, values: Mapping[str, object], run_name: str) -> DictConfig:
        """Return the configuration with the values and the name of one training."""
        own = {"tracking.run_name": run_name, "tracking.system_metrics": False}
        return self.configurations.having({**values, **own})

    def repeated(self, config: DictConfig, values: Mapping[str, object]) -> str:
        """Return what repeats one training, which had these values, on the command line."""
        options = self.configurations.options(values)
        keys = [key for key in values if key not in options]
        return repeating(with_options(self.overrides, options), config, keys, config.seed)


@contextmanager
def reason_kept(trial: optuna.Trial) -> Iterator[None]:
    """Keep with the trial why it failed; raises DiskFull or DatabaseHeld instead where that is why, which is no fault
    of the trial's.
    """
    try:
        yield
    except optuna.TrialPruned:
        raise
    except Exception as error:
        if disk_is_full(error):
            raise DiskFull from error
        if database_is_held(error):
            raise DatabaseHeld(one_line(error)) from error
        trial.set_user_attr(REASON, described(error))
        raise
