"""What the plots of a study show: each trial with a value, pruned ones with what they reported last."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from cnnlab.sweeps.goals import Goals
from cnnlab.sweeps.view import number

ENOUGH = 10  # trials below which an importance is chance
MOST = 4  # parameters that are drawn against each other: their panels grow with the square


@dataclass(frozen=True)
class Point:
    """A trial as the plots show it: its value, that of the last report where it was `pruned`, and how it came there."""

    number: int
    value: float
    pruned: bool
    parameters: Mapping[str, object]
    reports: Mapping[int, float]


@dataclass(frozen=True)
class Shown:
    """The points of a study, its best complete trial's number, and how its parameters are distributed.

    The values of a parameter of choices are texts, as one writes them.
    """

    name: str
    metric: str
    upward: bool
    points: tuple[Point, ...]
    best: int | None
    distributions: Mapping[str, BaseDistribution]

    @property
    def complete(self) -> int:
        """How many of the points ran to their end."""
        return sum(not point.pruned for point in self.points)

    @property
    def few(self) -> bool:
        return len(self.points) < ENOUGH

    @property
    def varied(self) -> list[str]:
        """The parameters of which there is more than one value: a single one draws an empty panel."""
        seen: dict[str, set[object]] = {}
        for point in self.points:
            for name, value in point.parameters.items():
                seen.setdefault(name, set()).add(value)
        return [name for name in self.distributions if len(seen.get(name, ())) > 1]

    def footnote(self) -> str:
        """Return the line below every plot: how many trials it shows, and whether they are few."""
        pruned = len(self.points) - self.complete
        line = f"n = {len(self.points)} trials"
        if pruned:
            line += f", {pruned} of them pruned and shown with their last report"
        return f"{line}: fewer than {ENOUGH}, differences may be chance" if self.few else line

    def study(self) -> optuna.Study:
        """Return the points as a study in memory, all of its trials complete: for what Optuna makes of studies."""
        made = optuna.create_study(study_name=self.name, direction="maximize" if self.upward else "minimize")
        for point in self.points:
            there = {name: self.distributions[name] for name in point.parameters}
            trial = optuna.create_trial(
                value=point.value,
                params=dict(point.parameters),
                distributions=there,
                intermediate_values=dict(point.reports),
            )
            made.add_trial(trial)
        return made

    def importances(self) -> dict[str, float]:
        """Return how much each parameter matters, as a share of all, the most important first; nothing where the trials
        are few, and where all reached the same."""
        if self.few:
            return {}
        with suppress(ValueError, RuntimeError):
            return optuna.importance.get_param_importances(self.study())
        return {}


def shown(study: optuna.Study, goals: Goals) -> Shown:
    """Return what the plots of a study show of its first goal."""
    states = TrialState.COMPLETE, TrialState.PRUNED
    trials = [trial for trial in study.get_trials(deepcopy=False, states=states) if _value(trial) is not None]
    distributions: dict[str, BaseDistribution] = {}
    for trial in trials:
        for name, distribution in trial.distributions.items():
            distributions.setdefault(name, _with_texts(distribution))
    best = goals.best(trials)
    return Shown(
        name=study.study_name,
        metric=goals.metric,
        upward=goals.directions[0] == "maximize",
        points=tuple(_point(trial) for trial in trials),
        best=best.number if best else None,
        distributions=distributions,
    )


def label(value: object) -> str:
    """Return a value as one writes it on the command line, without any quotes."""
    if isinstance(value, bool):
        return str(value).lower()
    return number(value).translate({ord(quote): None for quote in "\"'"})


def _point(trial: FrozenTrial) -> Point:
    parameters = {
        name: label(value) if isinstance(trial.distributions[name], CategoricalDistribution) else value
        for name, value in trial.params.items()
    }
    value = _value(trial)
    assert value is not None
    return Point(trial.number, value, trial.state == TrialState.PRUNED, parameters, dict(trial.intermediate_values))


def _value(trial: FrozenTrial) -> float | None:
    """Return what a trial reached, one that was pruned at its last report; None where nothing was measured."""
    if trial.values:
        return float(trial.values[0])
    reports = [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)]
    return reports[-1] if reports and math.isfinite(reports[-1]) else None


def _with_texts(distribution: BaseDistribution) -> BaseDistribution:
    """Return a distribution whose choices are texts; any other one as it is."""
    if not isinstance(distribution, CategoricalDistribution):
        return distribution
    return CategoricalDistribution(list(dict.fromkeys(label(choice) for choice in distribution.choices)))
