"""The search space: the keys a study searches, each with one of Optuna's distributions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

PLAIN = (str, int, float, bool)  # what Optuna stores as it is


@dataclass(frozen=True)
class Parameter:
    """One searched key: `values` maps what Optuna stores to what the configuration gets, where the two differ.

    `needs` has, by group, the options under which the key is there; it is searched under those alone.
    """

    key: str
    grammar: str
    distribution: BaseDistribution
    values: Mapping[str, object]
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    group: bool = False  # whether its values are options of a group

    @property
    def condition(self) -> str:
        """In words, when the key is searched; nothing where it always is."""
        return " and ".join(f"for {group}={' or '.join(options)}" for group, options in self.needs.items())

    def applies(self, chosen: Mapping[str, object]) -> bool:
        """Return whether the key is searched beside these values."""
        return all(chosen.get(group) in options for group, options in self.needs.items())

    def stored(self, value: object) -> object:
        """Return what Optuna stores for the configuration's value."""
        if isinstance(self.distribution, FloatDistribution) and isinstance(value, int):
            return float(value)
        return value if isinstance(value, PLAIN) else json.dumps(value)

    def allows(self, value: object) -> bool:
        """Return whether the search may come to the configuration's value."""
        stored = self.stored(value)
        if not isinstance(self.distribution, CategoricalDistribution):
            if isinstance(stored, bool) or not isinstance(stored, int | float):
                return False
            if isinstance(self.distribution, IntDistribution) and not isinstance(stored, int):
                return False
        try:
            return self.distribution._contains(self.distribution.to_internal_repr(stored))
        except ValueError:
            return False

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
    """All searched keys, options of groups before what depends on them, otherwise in the order of the file."""

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

        Under each option of each group: all parameters at their first end, all at their last, and each end of each
        parameter with the others left as the configuration has them. Not every combination, but every value and both
        extremes.
        """
        for options in self.options():
            others = [parameter for parameter in self if parameter.key not in options and parameter.applies(options)]
            for index in (0, -1):
                yield options | {parameter.key: parameter.value(parameter.ends()[index]) for parameter in others}
            for parameter in others:
                for end in parameter.ends():
                    yield options | {parameter.key: parameter.value(end)}

    def options(self) -> Iterator[dict[str, object]]:
        """Yield every option of every searched group, beside the first option of the others; {} where none is."""
        groups = {parameter.key: parameter.ends() for parameter in self if parameter.group}
        first = {key: options[0] for key, options in groups.items()}
        yield first
        for key, options in groups.items():
            for option in options[1:]:
                yield first | {key: option}


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
