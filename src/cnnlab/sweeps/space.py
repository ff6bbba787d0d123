"""The search space: configuration keys and Hydra's sweep grammar, turned into Optuna's distributions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, QuotedString, RangeSweep
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from cnnlab.errors import UsageError, one_line, unknown
from cnnlab.settings.base import flatten

GRAMMAR = "choice(...), range(start, stop, step), interval(low, high), int(...), tag(log, ...)"
# What a trial may not change: its seed and place are the sweep's own, and other images would be another task.
APART = ("tracking", "loggers", "metrics", "experiment", "hydra", "sweep", "search", "sampler", "pruner")
FIXED = ("seed", "dataset", *APART)
SEARCHABLE = ("dataset.scaling",)
PLAIN = (str, int, float, bool)


@dataclass(frozen=True)
class Parameter:
    """One searched key: `values` maps what Optuna stores to what the configuration gets, where the two differ."""

    key: str
    grammar: str
    distribution: BaseDistribution
    values: Mapping[str, object]

    def value(self, stored: object) -> object:
        """Return the configuration's value for Optuna's."""
        return self.values.get(stored, stored) if isinstance(stored, str) else stored

    def ends(self) -> list[object]:
        """Return the values a check must try: every choice, or both ends of the range."""
        if isinstance(self.distribution, CategoricalDistribution):
            return list(self.distribution.choices)
        assert isinstance(self.distribution, IntDistribution | FloatDistribution)
        return [self.distribution.low, self.distribution.high]

    def grid(self) -> list[object] | None:
        """Return all values, or None where there are infinitely many."""
        if isinstance(self.distribution, CategoricalDistribution):
            return list(self.distribution.choices)
        assert isinstance(self.distribution, IntDistribution | FloatDistribution)
        if self.distribution.step is None or self.distribution.log:
            return None
        steps = round((self.distribution.high - self.distribution.low) / self.distribution.step)
        return [self.distribution.low + index * self.distribution.step for index in range(steps + 1)]


@dataclass(frozen=True)
class Space:
    """All searched keys, in the order of the file."""

    parameters: tuple[Parameter, ...]

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self.parameters)

    def grammar(self) -> dict[str, str]:
        """Return the text each key was given, by key."""
        return {parameter.key: parameter.grammar for parameter in self}

    def values(self, stored: Mapping[str, object]) -> dict[str, object]:
        """Return the configuration's values for the parameters of an Optuna trial."""
        return {parameter.key: parameter.value(stored[parameter.key]) for parameter in self if parameter.key in stored}

    def corners(self) -> Iterator[dict[str, object]]:
        """Yield the assignments a check must try, as configuration values.

        All parameters at their first end, all at their last, and each end of each parameter with the others left as
        the configuration has them: not every combination, but every value and both extremes.
        """
        for index in (0, -1):
            yield {parameter.key: parameter.value(parameter.ends()[index]) for parameter in self}
        for parameter in self:
            for end in parameter.ends():
                yield {parameter.key: parameter.value(end)}


def read_space(search: Mapping[str, object] | None, config: DictConfig) -> Space:
    """Return the space of a `search` section over a composed configuration.

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
    parameters = []
    for key, grammar in entries.items():
        if problem := _check_key(key, config):
            problems.append(problem)
            continue
        try:
            parameters.append(parse(key, str(grammar)))
        except UsageError as error:
            problems += error.problems
    keys = [parameter.key for parameter in parameters]
    problems += [
        f"search.{key} and search.{other} set the same values; search one of them"
        for key in keys
        for other in keys
        if other.startswith(f"{key}.")
    ]
    if problems:
        raise UsageError(*problems)
    return Space(tuple(parameters))


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


def apply(config: DictConfig, values: Mapping[str, object]) -> DictConfig:
    """Return a copy of the configuration with these values; keys may name one item of a list (model.filters.0)."""
    changed = config.copy()
    for key, value in values.items():
        OmegaConf.update(changed, key, value)
    return changed


def section(values: Mapping[str, object], name: str) -> Mapping[str, object]:
    """Return a section of a resolved configuration; an empty one where it is missing."""
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}


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


def _check_key(key: str, config: DictConfig) -> str | None:
    """Return what is wrong with a searched key, if anything."""
    root = key.split(".")[0]
    if root in FIXED and key not in SEARCHABLE:
        why = "use sweep.seeds for several seeds a trial" if root == "seed" else "trials could not be compared"
        return f"search.{key} cannot be searched: {why}"
    known = _keys(config)
    if key not in known:
        return unknown("search key", key, sorted(name for name in known if name.split(".")[0] == root) or sorted(known))
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
