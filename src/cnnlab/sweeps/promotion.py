"""A pruned trial goes on later, from where it was stopped, when its result has become one of the better ones.

Pruners judge a trial by those before it. Once others have done worse, the same result would let it pass; then its
training is continued, not repeated. Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", do so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from cnnlab.settings.base import Own
from cnnlab.sweeps.storage import CONTINUES, state_of

KEPT = 10  # such files of one study; those of the worst are deleted
# By pruner: the share of the trials that it lets pass, from its arguments.
HALVING = {"optuna.pruners.HyperbandPruner": 3, "optuna.pruners.SuccessiveHalvingPruner": 4}  # and their default
MEDIAN, PERCENTILE = "optuna.pruners.MedianPruner", "optuna.pruners.PercentilePruner"


@dataclass(frozen=True)
class Promotion:
    """Chooses the pruned trial to go on with.

    `share` of the trials that came as far are let pass, once there are as many as `fewest`.
    """

    share: float
    fewest: int

    def candidate(self, study: optuna.Study) -> FrozenTrial | None:
        """Return the best of the trials that came furthest, were pruned and would not be today; None without one."""
        trials = study.get_trials(deepcopy=False)
        sign = sign_of(study)
        return next((trial for trial in waiting(trials, sign) if self.passes(trial, trials, sign)), None)

    def passes(self, trial: FrozenTrial, trials: Sequence[FrozenTrial], sign: int) -> bool:
        """Return whether a pruned trial is among the best of all that came as far, as its pruner counts them."""
        step = trial.last_step
        others = sorted(sign * other.intermediate_values[step] for other in trials if step in other.intermediate_values)
        if len(others) < self.fewest:
            return False
        return sign * reached(trial) <= others[max(1, int(len(others) * self.share)) - 1]


def promotion(pruner: Own) -> Promotion | None:
    """Return how trials are promoted beside this pruner; None where it has no share that it lets pass."""
    arguments = pruner.arguments
    if pruner.target in HALVING:
        factor = arguments.get("reduction_factor", HALVING[pruner.target])
        awaited = arguments.get("bootstrap_count", 0)
        if not isinstance(factor, int) or factor < 2 or not isinstance(awaited, int):
            return None  # Optuna's to refuse
        return Promotion(1 / factor, max(factor, awaited + 1))
    percentile = 50 if pruner.target == MEDIAN else arguments.get("percentile")
    awaited = arguments.get("n_startup_trials", 5)
    if pruner.target not in (MEDIAN, PERCENTILE) or not isinstance(percentile, int | float):
        return None
    return Promotion(percentile / 100, max(2, awaited)) if isinstance(awaited, int) else None


def sign_of(study: optuna.Study) -> int:
    """Return by what a value is multiplied, so that less is better."""
    return 1 if study.direction == StudyDirection.MINIMIZE else -1


def waiting(trials: Sequence[FrozenTrial], sign: int) -> list[FrozenTrial]:
    """Return the pruned trials that can be continued, those that came furthest and then the best of them first.

    Their state is there, and no other trial is the same training.
    """
    gone_on = {trial.user_attrs.get(CONTINUES) for trial in trials}
    better = [trial.params for trial in trials if trial.state in (TrialState.RUNNING, TrialState.COMPLETE)]
    stopped = [
        trial
        for trial in trials
        if trial.state == TrialState.PRUNED
        and trial.number not in gone_on
        and trial.intermediate_values
        and state_of(trial) is not None
        and trial.params not in better
    ]
    return sorted(stopped, key=lambda trial: (-(trial.last_step or 0), sign * reached(trial)))


def reached(trial: FrozenTrial) -> float:
    """Return the value a trial was pruned with."""
    assert trial.last_step is not None
    return trial.intermediate_values[trial.last_step]


def tidy(study: optuna.Study) -> None:
    """Delete the states of all but the best of the trials that can be continued."""
    trials = study.get_trials(deepcopy=False)
    kept = {state_of(trial) for trial in waiting(trials, sign_of(study))[:KEPT]}
    for trial in trials:
        file = state_of(trial)
        if file is not None and trial.state == TrialState.PRUNED and file not in kept:
            file.unlink(missing_ok=True)
