"""What Optuna suggests for a trial, and whether another trial was the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import optuna
from omegaconf import DictConfig
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from cnnlab.sweeps.space import Parameter, Space


@dataclass(frozen=True)
class Draft:
    """What a trial is to be: Optuna's suggestion, its values by key, and the configuration that has them."""

    stored: Mapping[str, object]
    chosen: Mapping[str, object]
    config: DictConfig
    values: Mapping[str, object]


def suggested(trial: optuna.Trial, space: Space) -> dict[str, object]:
    """Return Optuna's suggestion for every parameter that the options chosen before it have, as Optuna stores it."""
    stored: dict[str, object] = {}
    for parameter in space:
        if parameter.applies(stored):
            stored[parameter.key] = suggest(trial, parameter)
    return stored


def suggest(trial: optuna.Trial, parameter: Parameter) -> object:
    """Return Optuna's suggestion for a parameter, as Optuna stores it."""
    distribution = parameter.distribution
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(parameter.key, distribution.choices)
    if isinstance(distribution, IntDistribution):
        low, high = distribution.low, distribution.high
        return trial.suggest_int(parameter.key, low, high, step=distribution.step, log=distribution.log)
    assert isinstance(distribution, FloatDistribution)
    bounds = distribution.low, distribution.high
    return trial.suggest_float(parameter.key, *bounds, step=distribution.step, log=distribution.log)


def find_twin(trial: optuna.Trial, stored: Mapping[str, object]) -> FrozenTrial | None:
    """Return a finished trial with the same parameters, one that was not pruned if there is any."""
    for state in (TrialState.COMPLETE, TrialState.PRUNED):
        for other in trial.study.get_trials(deepcopy=False, states=(state,)):
            if other.params == stored:
                return other
    return None
