"""A search section: configuration keys and Hydra's sweep grammar, turned into Optuna's distributions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, QuotedString, RangeSweep
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from cnnlab.errors import UsageError, collect, one_line, unknown
from cnnlab.settings.base import flatten
from cnnlab.sweeps.configurations import Configurations
from cnnlab.sweeps.space import PLAIN, Parameter, Space

GRAMMAR = "choice(...), range(start, stop, step), interval(low, high), int(...), tag(log, ...)"
# What a trial may not change: its seed and place are the sweep's own, and other images would be another task.
APART = ("tracking", "loggers", "metrics", "experiment", "hydra", "sweep", "search", "sampler", "pruner")
FIXED = ("seed", "dataset", *APART)
SEARCHABLE = ("dataset.scaling",)


def read_space(search: Mapping[str, object] | None, configurations: Configurations) -> Space:
    """Return the space of a `search` section over a command's configurations.

    `GROUP` or `GROUP.name` with a choice searches the options of a group; a key that some of them lack is searched
    under the others alone.

    Raises UsageError with one line for every key that does not exist or may not change, every text that is not a
    sweep, and an empty section.
    """
    entries = flatten(search or {})
    if not entries:
        raise UsageError(
            "search is empty: choose a file of conf/search, such as search=deep_cnn, or add a key: "
            "'+search.optimizer.lr=\"tag(log, interval(1e-4, 1e-2))\"'"
        )
    problems: list[str] = []
    groups = {key: key.removesuffix(".name") for key in entries if key.removesuffix(".name") in configurations.groups}
    found = [collect(problems, _options, group, str(entries[key])) for key, group in groups.items()]
    searched = [choice for choice in found if choice]
    under: dict[str, dict[str, DictConfig]] = {choice.key: {} for choice in searched}
    for choice in searched:
        for option in map(str, choice.ends()):
            if config := collect(problems, configurations.under, {choice.key: option}):
                under[choice.key][option] = config
    configs = [configurations.config, *(config for options in under.values() for config in options.values())]
    for key, grammar in entries.items():
        if key in groups:
            continue
        if problem := _check_key(key, configs):
            problems.append(problem)
        elif parameter := collect(problems, parse, key, str(grammar)):
            searched.append(replace(parameter, needs=_needed(key, under)))
    keys = [parameter.key for parameter in searched if not parameter.group]
    problems += [
        f"search.{key} and search.{other} set the same values; search one of them"
        for key in keys
        for other in keys
        if other.startswith(f"{key}.")
    ]
    if problems:
        raise UsageError(*problems)
    return Space(tuple(searched))


def parse(key: str, grammar: str) -> Parameter:
    """Return the parameter of one line `key: grammar`; raises UsageError where it is not a sweep of Hydra's grammar."""
    try:
        value = OverridesParser.create().parse_override(f"{key}={grammar}").value()
    except HydraException as error:
        raise UsageError(f"search.{key}={grammar!r}: {one_line(error)}; allowed: {GRAMMAR}") from error
    if isinstance(value, ChoiceSweep):
        return _choice(key, grammar, value)
    if isinstance(value, RangeSweep | IntervalSweep):
        return Parameter(key, grammar, _checked(key, grammar, value), {})
    raise UsageError(
        f"search.{key}={grammar!r} is a single value, not a search; allowed: {GRAMMAR} "
        f"(a value for all trials goes on the command line: {key}={grammar})"
    )


def _choice(key: str, grammar: str, sweep: ChoiceSweep) -> Parameter:
    if unknown_tags := set(sweep.tags):
        raise UsageError(
            f"search.{key}={grammar!r}: tag {', '.join(map(str, unknown_tags))} has no meaning in a choice"
        )
    stored: list[str | int | float | bool] = []
    values: dict[str, object] = {}
    for item in map(_plain, sweep.list):
        if isinstance(item, PLAIN):
            stored.append(item)
        else:  # Optuna stores plain values only: a list goes by its text
            text = json.dumps(item)
            stored.append(text)
            values[text] = item
    if len({json.dumps(item) for item in stored}) < len(stored):
        raise UsageError(f"search.{key}={grammar!r} names the same choice twice")
    return Parameter(key, grammar, CategoricalDistribution(stored), values)


def _plain(item: object) -> object:
    """Return a choice as the configuration takes it: Hydra keeps quoted texts inside lists as objects."""
    if isinstance(item, list):
        return [_plain(part) for part in item]
    return item.text if isinstance(item, QuotedString) else item


def _checked(key: str, grammar: str, sweep: RangeSweep | IntervalSweep) -> BaseDistribution:
    """Return the distribution of a range or interval; raises UsageError in the terms of the grammar."""
    log = "log" in sweep.tags
    if other := sorted(map(str, set(sweep.tags) - {"log"})):
        raise UsageError(f"search.{key}={grammar!r}: tag {', '.join(other)} is unknown; allowed: log")
    try:
        if isinstance(sweep, IntervalSweep):
            assert sweep.start is not None and sweep.end is not None
            if isinstance(sweep.start, int) and isinstance(sweep.end, int):
                return IntDistribution(sweep.start, sweep.end, log=log)
            return FloatDistribution(float(sweep.start), float(sweep.end), log=log)
        return _range(sweep, log)
    except ValueError as error:
        raise UsageError(f"search.{key}={grammar!r}: {one_line(error)}") from error


def _range(sweep: RangeSweep, log: bool) -> BaseDistribution:
    """Return the distribution of Hydra's range, whose stop is excluded, as in Python."""
    start, stop, step = sweep.start, sweep.stop, sweep.step
    if start is None or stop is None:
        raise ValueError("range needs a start and a stop")
    if step <= 0 or stop <= start:
        raise ValueError("range needs a start below its stop and a step above 0")
    if log:
        raise ValueError("a range has steps and cannot be logarithmic; use tag(log, interval(low, high))")
    # A hair below the stop, so that rounding never lets range(0, 0.3, 0.1) include 0.3.
    count = int((stop - start) / step - 1e-9) + 1
    last = start + (count - 1) * step
    if all(isinstance(value, int) for value in (start, stop, step)):
        return IntDistribution(int(start), int(last), step=int(step))
    return FloatDistribution(float(start), float(last), step=float(step))


def _options(group: str, grammar: str) -> Parameter:
    """Return the parameter of a group's options; raises UsageError where the text is no choice of names."""
    parameter = parse(group, grammar)
    if not isinstance(parameter.distribution, CategoricalDistribution):
        raise UsageError(f"search.{group}={grammar!r} is not a choice of options, such as choice(adam, sgd)")
    return replace(parameter, group=True)


def _needed(key: str, under: Mapping[str, Mapping[str, DictConfig]]) -> dict[str, tuple[str, ...]]:
    """Return, by searched group, the options that have the key, for the groups where some have it and some do not."""
    needs = {}
    for group, configs in under.items():
        having = tuple(option for option, config in configs.items() if key in _keys(config))
        if 0 < len(having) < len(configs):
            needs[group] = having
    return needs


def _check_key(key: str, configs: Iterable[DictConfig]) -> str | None:
    """Return what is wrong with a searched key of any of these configurations, if anything."""
    root = key.split(".")[0]
    if root in FIXED and key not in SEARCHABLE:
        why = "use sweep.seeds for several seeds a trial" if root == "seed" else "trials could not be compared"
        return f"search.{key} cannot be searched: {why}"
    keys = {id(config): _keys(config) for config in configs}
    known = set().union(*keys.values())
    if key not in known:
        return unknown("search key", key, sorted(name for name in known if name.split(".")[0] == root) or sorted(known))
    config = next(config for config in configs if key in keys[id(config)])
    if isinstance(OmegaConf.select(config, key), DictConfig):
        return f"search.{key} is a section, not a value; search one of its keys, such as {_first_leaf(config, key)}"
    return None


def _keys(config: DictConfig | ListConfig, prefix: str = "") -> set[str]:
    """Return all keys a search may name: sections, values, lists and their items."""
    found: set[str] = set()
    for name, node in config.items_ex(resolve=False) if isinstance(config, DictConfig) else enumerate(config):
        if not prefix and name in FIXED and name != "dataset":
            continue
        found.add(f"{prefix}{name!s}")
        if isinstance(node, DictConfig | ListConfig) and not OmegaConf.is_missing(config, name):
            found |= _keys(node, f"{prefix}{name!s}.")
    return found


def _first_leaf(config: DictConfig, key: str) -> str:
    return min(name for name in _keys(config) if name.startswith(f"{key}.") and not name.endswith("._target_"))
