"""A pruned trial goes on later, from where it was stopped, when its result has become one of the better ones.

Pruners judge a trial by those before it. Once others have done worse, the same result would let it pass; then its
training is continued, not repeated. Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", do so.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import optuna
import pytorch_lightning as pl
import torch
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from cnnlab.settings.base import Own
from cnnlab.sweeps.storage import CONTINUES

STATE = "state"  # user attribute of a pruned trial: the file it can be continued from
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


def state_of(trial: FrozenTrial) -> Path | None:
    """Return the file a trial can be continued from, where it is still there."""
    file = Path(trial.user_attrs.get(STATE, ""))
    return file if file.is_file() else None


def tidy(study: optuna.Study) -> None:
    """Delete the states of all but the best of the trials that can be continued."""
    trials = study.get_trials(deepcopy=False)
    kept = {state_of(trial) for trial in waiting(trials, sign_of(study))[:KEPT]}
    for trial in trials:
        file = state_of(trial)
        if file is not None and trial.state == TrialState.PRUNED and file not in kept:
            file.unlink(missing_ok=True)


class Watched(Protocol):
    """What a trial has seen of its training: the metrics of each epoch, earlier seconds, and whether it is pruned."""

    epochs: dict[int, Mapping[str, float]]
    seconds: float
    pruned: bool


class Progress(pl.Callback):
    """Writes the state of a training that is pruned, with what the trial has seen and the state of the random numbers.

    It comes before Lightning's WeightAveraging, which replaces the weights at the end of training.
    """

    def __init__(self, watch: Watched, file: Path) -> None:
        self.watch = watch
        self.file = file
        self.random: torch.Tensor | None = None

    def state_dict(self) -> dict[str, object]:
        # Plain texts as names, or the file would hold a class and not be loaded.
        seen = {epoch: {str(key): value for key, value in row.items()} for epoch, row in self.watch.epochs.items()}
        seconds = self.watch.seconds + time.perf_counter() - self.started
        return {"epochs": seen, "seconds": seconds, "random": torch.get_rng_state()}

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        random = state_dict["random"]
        assert isinstance(random, torch.Tensor)
        self.random = random

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.started = time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.random is not None:
            torch.set_rng_state(self.random)
            self.random = None

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.watch.pruned:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            unfinished = self.file.with_suffix(".part")
            trainer.save_checkpoint(unfinished)
            unfinished.replace(self.file)


def read_progress(file: Path) -> tuple[dict[int, dict[str, float]], float]:
    """Return the metrics of each epoch that a state was reached by, and the seconds they took."""
    content = torch.load(file, map_location="cpu", weights_only=True)
    progress = content["callbacks"][Progress.__name__]
    return progress["epochs"], progress["seconds"]
