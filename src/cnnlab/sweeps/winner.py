"""The winner, trained again: other seeds, full budget, and the test split once each, unless it is sealed."""

from __future__ import annotations

from dataclasses import dataclass

import optuna

from cnnlab import process
from cnnlab.beginning import start_tags
from cnnlab.plan import make_plan, read_training
from cnnlab.settings.base import LARGEST_SEED
from cnnlab.settings.read import resolve
from cnnlab.start import typed
from cnnlab.sweeps.setup import Setup, reason_kept
from cnnlab.sweeps.storage import RUN, SEED, run_name
from cnnlab.sweeps.study import RESULT
from cnnlab.tracking.run import open_run
from cnnlab.tracking.schema import Metric, Role, Tag
from cnnlab.training import measures_shown, train_and_test


@dataclass(frozen=True)
class Winner:
    """Trains the winner's configuration with the seed of each trial of its small study, and tests it.

    `chosen` are the keys whose values the search has found, options of groups apart: those are the setup's overrides.
    """

    setup: Setup
    chosen: tuple[str, ...]

    def __call__(self, trial: optuna.Trial) -> float:
        """Return the test accuracy of the best checkpoint; all its metrics go to the trial's attributes.

        Where the test split is sealed, those of validation take their place.
        """
        with reason_kept(trial):
            return self.run(trial, trial.suggest_int(SEED, 0, LARGEST_SEED))

    def run(self, trial: optuna.Trial, seed: int) -> float:
        setup = self.setup
        config = setup.configured({SEED: seed}, run_name(trial))
        settings = read_training(resolve(config), setup.data)
        process.seed(settings.seed)
        plan = make_plan(settings, setup.folder / f"seed{seed}", setup.data, setup.weights)
        overrides = setup.repeated(config, dict.fromkeys(self.chosen))
        tags: dict[str, str] = {Tag.PARENT: setup.parent_run, Tag.ROLE: Role.WINNER, Tag.OVERRIDES: overrides}
        tags[Tag.COMMAND] = f"{typed('train')} {overrides}"
        with open_run(settings.tracking, start_tags(plan) | tags) as run:
            trial.set_user_attr(RUN, run.run_id)
            result = train_and_test(run, plan, setup.folder / f"seed{seed}", own_folder=setup.own_folder)
            shown = measures_shown(result, plan)
            trial.set_user_attr(RESULT, shown)
        return shown[Metric.VAL_ACCURACY if plan.data.sealed else Metric.TEST_ACCURACY]
