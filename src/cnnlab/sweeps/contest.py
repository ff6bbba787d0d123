"""The trainings of a comparison: each trial is one side with one seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import optuna

from cnnlab.settings.base import LARGEST_SEED
from cnnlab.settings.commands import FOLD
from cnnlab.sweeps.setup import Setup, reason_kept
from cnnlab.sweeps.storage import PART, SEED, SIDE
from cnnlab.sweeps.winner import train_result
from cnnlab.tracking.schema import Role, Tag


@dataclass(frozen=True)
class Contest:
    """Trains the side that a trial names with the seed, or on the fold, that it names.

    `experiments` are the recipes that the sides chose.
    """

    setups: Mapping[str, Setup]
    experiments: Mapping[str, str | None]
    folds: bool

    def __call__(self, trial: optuna.Trial) -> float:
        """Return the seconds of training; what came out stands in the run, as of any other."""
        with reason_kept(trial):
            side = trial.suggest_categorical(SIDE, tuple(self.setups))
            number = trial.suggest_int(PART if self.folds else SEED, 0, LARGEST_SEED)
            own = {FOLD if self.folds else SEED: number}
            recipe = self.experiments[side]
            tags: dict[str, str] = {Tag.ROLE: Role.CONTENDER} | ({Tag.EXPERIMENT: recipe} if recipe else {})
            result, _ = train_result(self.setups[side], trial, own, tags, "compare")
        return result.training_seconds
