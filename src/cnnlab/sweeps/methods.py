"""Optuna's own samplers and pruners, from their config groups."""

from __future__ import annotations

import optuna
from optuna.distributions import CategoricalDistribution

from cnnlab.errors import UsageError
from cnnlab.own import called, own
from cnnlab.settings.base import Own
from cnnlab.sweeps.goals import Goals
from cnnlab.sweeps.space import Space

GRID = "optuna.samplers.GridSampler"
CMAES = "optuna.samplers.CmaEsSampler"
NO_PRUNER = "optuna.pruners.NopPruner"


def build_sampler(settings: Own, space: Space, goals: Goals) -> optuna.samplers.BaseSampler:
    """Return the sampler of a `sampler` section; raises UsageError where it cannot search this space."""
    arguments: dict[str, object] = {}
    if settings.target == GRID:
        arguments["search_space"] = grid(space)
    if settings.target == CMAES:
        if not goals.single:
            raise UsageError(f"sampler=cmaes takes one objective, but sweep.objective={list(goals.names)!r}")
        if all(isinstance(parameter.distribution, CategoricalDistribution) for parameter in space):
            raise UsageError(
                "sampler=cmaes searches numbers, but every search key is a choice(...); "
                "use interval or range, or sampler=tpe"
            )
    sampler = called("sampler", own("sampler", settings), **arguments)
    if not isinstance(sampler, optuna.samplers.BaseSampler):
        raise _refused("sampler", settings)
    return sampler


def build_pruner(settings: Own) -> optuna.pruners.BasePruner:
    """Return the pruner of a `pruner` section; raises UsageError for anything that is none of Optuna's."""
    pruner = called("pruner", own("pruner", settings))
    if not isinstance(pruner, optuna.pruners.BasePruner):
        raise _refused("pruner", settings)
    return pruner


def grid(space: Space) -> dict[str, list[object]]:
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


def _refused(section: str, settings: Own) -> UsageError:
    return UsageError(f"{section}._target_={settings.target!r} is not one of Optuna's {section}s")
