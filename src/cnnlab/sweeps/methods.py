"""Optuna's own samplers and pruners, from their config groups."""

from __future__ import annotations

import math

import optuna
from optuna.distributions import CategoricalDistribution

from cnnlab.errors import UsageError
from cnnlab.own import asked, called, own
from cnnlab.settings.base import Own
from cnnlab.sweeps.goals import Goals
from cnnlab.sweeps.space import Space
from cnnlab.sweeps.study import excess

GRID = "optuna.samplers.GridSampler"
CMAES = "optuna.samplers.CmaEsSampler"
NO_PRUNER = "optuna.pruners.NopPruner"
WILCOXON = "optuna.pruners.WilcoxonPruner"


def build_sampler(
    settings: Own, space: Space, goals: Goals, *, constrained: bool = False
) -> optuna.samplers.BaseSampler:
    """Return the sampler of a `sampler` section; raises UsageError where it cannot search this space.

    Where costs are `constrained` it is told what each trial exceeded, if it is one of Optuna's that learn from that.
    """
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
    make = own("sampler", settings)
    learns = asked(make, constraints_func=excess) if constrained else {}
    sampler = called("sampler", make, **arguments, **learns)
    if not isinstance(sampler, optuna.samplers.BaseSampler):
        raise _refused("sampler", settings)
    return sampler


def build_pruner(settings: Own) -> optuna.pruners.BasePruner:
    """Return the pruner of a `pruner` section; raises UsageError for anything that is none of Optuna's."""
    pruner = called("pruner", own("pruner", settings))
    if not isinstance(pruner, optuna.pruners.BasePruner):
        raise _refused("pruner", settings)
    return pruner


def check_seeds(pruner: Own, seeds: int) -> list[str]:
    """Return what is wrong with comparing trials seed by seed where there are too few of them."""
    if pruner.target != WILCOXON:
        return []
    threshold = pruner.arguments.get("p_threshold", 0.1)
    if not isinstance(threshold, float) or not 0 < threshold < 1:
        return []  # Optuna's to refuse
    # The smallest p-value of a signed-rank test of n pairs is 2 to the power of -n.
    earliest = math.floor(-math.log2(threshold)) + 1
    if seeds > earliest:
        return []
    return [
        f"pruner=wilcoxon compares trials seed by seed and, at pruner.p_threshold={threshold:g}, can stop one after "
        f"{earliest} seeds at the earliest; sweep.seeds={seeds} is not allowed, it takes {earliest + 1} or more"
    ]


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
