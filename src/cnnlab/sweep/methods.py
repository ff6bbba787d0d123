"""Optuna's own samplers and pruners, from their config groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from hydra.utils import instantiate
from optuna.distributions import CategoricalDistribution

from cnnlab.errors import UsageError
from cnnlab.sweep.goals import Goals
from cnnlab.sweep.space import Space
from cnnlab.sweep.study import quiet

GRID = "optuna.samplers.GridSampler"
CMAES = "optuna.samplers.CmaEsSampler"


def build_sampler(settings: Mapping[str, Any], space: Space, goals: Goals) -> optuna.samplers.BaseSampler:
    """Return the sampler of a `sampler` section; raises UsageError where it cannot search this space."""
    target = settings.get("_target_")
    arguments: dict[str, Any] = {}
    if target == GRID:
        arguments["search_space"] = grid(space)
    if target == CMAES:
        if not goals.single:
            raise UsageError(f"sampler=cmaes takes one objective, but sweep.objective={list(goals.names)!r}")
        if all(isinstance(parameter.distribution, CategoricalDistribution) for parameter in space):
            raise UsageError(
                "sampler=cmaes searches numbers, but every search key is a choice(...); "
                "use interval or range, or sampler=tpe"
            )
    return _build("sampler", settings, optuna.samplers.BaseSampler, arguments)


def build_pruner(settings: Mapping[str, Any]) -> optuna.pruners.BasePruner:
    """Return the pruner of a `pruner` section."""
    return _build("pruner", settings, optuna.pruners.BasePruner, {})


def grid(space: Space) -> dict[str, list[Any]]:
    """Return all values of every parameter; raises UsageError with those that have no end."""
    endless = [parameter for parameter in space if parameter.grid() is None]
    if endless:
        raise UsageError(
            *(
                f"search.{parameter.key}={parameter.grammar!r} has no end of values; sampler=grid takes choice or range"
                for parameter in endless
            )
        )
    return {parameter.key: parameter.grid() or [] for parameter in space}


def _build(section: str, settings: Mapping[str, Any], kind: type, arguments: Mapping[str, Any]) -> Any:
    try:
        with quiet():
            built = instantiate(dict(settings), **arguments, _convert_="all")
    except Exception as error:  # whatever a constructor raises is about the values it was given
        cause = error.__cause__ or error
        raise UsageError(f"{section}: {str(cause).strip().splitlines()[0]}") from error
    if not isinstance(built, kind):
        raise UsageError(f"{section}._target_={settings.get('_target_')!r} is not one of Optuna's {section}s")
    return built
