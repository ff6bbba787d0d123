"""What `python train.py` takes to repeat a training of a sweep."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping

from omegaconf import DictConfig, ListConfig, OmegaConf

NOT_REPEATED = ("sweep", "search", "sampler", "pruner", "hydra", "seed")
PLAIN = re.compile(r"[A-Za-z_][\w./-]*", re.ASCII)  # texts that Hydra's grammar takes without quotes,
RESERVED = ("null", "true", "false", "nan", "inf")  # but for these


def training_overrides(overrides: Iterable[str]) -> tuple[str, ...]:
    """Return those of a sweep's overrides that train.py takes as well; the seed is another one for each training."""
    return tuple(item for item in overrides if re.split(r"[.=@/]", item.lstrip("+~"))[0] not in NOT_REPEATED)


def with_options(overrides: Iterable[str], options: Mapping[str, str]) -> tuple[str, ...]:
    """Return the overrides with these options of their groups, in the place of those they chose."""
    kept = (item for item in overrides if item.lstrip("+~").partition("=")[0] not in options)
    return (*kept, *(f"{group}={written(option)}" for group, option in options.items()))


def repeating(overrides: Iterable[str], config: DictConfig, chosen: Iterable[str], seed: int) -> str:
    """Return the overrides that repeat a training, as a shell takes them.

    `config` is the training's own configuration, `chosen` the keys the search set in it. Hydra sets no single items of
    a list, so their whole list is given.
    """
    keys = dict.fromkeys(re.sub(r"(\.\d+)+$", "", key) for key in chosen)
    values = {key: OmegaConf.select(config, key) for key in keys}
    return shlex.join([*overrides, *(f"{key}={written(value)}" for key, value in values.items()), f"seed={seed}"])


def written(value: object) -> str:
    """Return a value as Hydra's grammar reads it back: the same number to the last digit."""
    if isinstance(value, list | ListConfig):
        return "[" + ",".join(written(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{written(item)}" for key, item in value.items()) + "}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str) and not (PLAIN.fullmatch(value) and value.lower() not in RESERVED):
        # The grammar takes a backslash for what it is, unless a quote follows.
        return "'" + re.sub(r"(\\*)'", r"\1\1\'", re.sub(r"(\\+)$", r"\1\1", value)) + "'"
    return str(value)
