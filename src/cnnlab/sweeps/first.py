"""The configurations a study tries before its sampler chooses: those that somebody knows already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import optuna
from omegaconf import ListConfig, OmegaConf

from cnnlab.errors import UsageError, shown, unknown
from cnnlab.settings.base import flatten
from cnnlab.sweeps.configurations import Configurations
from cnnlab.sweeps.space import Space

FIXED = "fixed_params"  # Optuna's own name of what a queued trial was given


def known_configurations(
    first: Sequence[Mapping[str, object]], space: Space, configurations: Configurations
) -> list[dict[str, object]]:
    """Return what each trial of `sweep.first` is given, as Optuna stores it.

    A searched key that one does not name has the value it has in the command's configuration, where the search allows
    that, and is the sampler's to choose otherwise. Raises UsageError with every key that is not searched and every
    value the search does not allow.
    """
    problems: list[str] = []
    found = []
    for index, given in enumerate(first):
        named = flatten(given)
        place = f"sweep.first[{index}]"
        problems += [
            unknown(f"{place} key", key, [parameter.key for parameter in space])
            for key in named
            if key not in space.grammar()
        ]
        stored: dict[str, object] = {}
        for parameter in space:
            if not parameter.applies(stored):
                if parameter.key in named:
                    problems.append(f"{place}: {parameter.key} is searched {parameter.condition} alone")
                continue
            value = named.get(parameter.key, _configured(configurations, space.values(stored), parameter.key))
            if parameter.allows(value):
                stored[parameter.key] = parameter.stored(value)
            elif parameter.key in named:
                problems.append(
                    f"{place}: {parameter.key}={shown(value)} is not in the search; allowed: {parameter.grammar}"
                )
        found.append(stored)
    if problems:
        raise UsageError(*problems)
    return found


def queue_first(study: optuna.Study, known: Sequence[Mapping[str, object]]) -> None:
    """Queue each of the configurations, unless the study had it already."""
    trials = study.get_trials(deepcopy=False)
    had = [trial.system_attrs.get(FIXED) for trial in trials] + [trial.params for trial in trials]
    for stored in known:
        if stored not in had:
            study.enqueue_trial(dict(stored))
            had.append(dict(stored))


def _configured(configurations: Configurations, chosen: Mapping[str, object], key: str) -> object:
    """Return what the command's configuration has at a key, under the options chosen so far."""
    if key in configurations.groups:
        return configurations.chosen.get(key)
    value = OmegaConf.select(configurations.under(configurations.options(chosen)), key)
    return OmegaConf.to_container(value) if isinstance(value, ListConfig) else value
