"""The winner, trained again: other seeds, full budget, and the test split once each, unless it is sealed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import optuna

from cnnlab import process
from cnnlab.beginning import start_tags
from cnnlab.keeping import Result, measures_shown
from cnnlab.plan import make_plan, read_training
from cnnlab.ranks import several
from cnnlab.settings.base import LARGEST_SEED
from cnnlab.settings.read import resolve
from cnnlab.start import typed
from cnnlab.sweeps.setup import Setup, reason_kept
from cnnlab.sweeps.storage import RUN, SEED, run_name
from cnnlab.sweeps.study import RESULT
from cnnlab.tracking.ledger import Door
from cnnlab.tracking.run import open_run
from cnnlab.tracking.schema import Metric, Role, Tag
from cnnlab.training import train_and_test


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
            seed = trial.suggest_int(SEED, 0, LARGEST_SEED)
            _, shown = train_result(self.setup, trial, {SEED: seed}, {Tag.ROLE: Role.WINNER}, "sweep", self.chosen)
        return shown[Metric.TEST_ACCURACY if Metric.TEST_ACCURACY in shown else Metric.VAL_ACCURACY]


def train_result(
    setup: Setup,
    trial: optuna.Trial,
    own: Mapping[str, object],
    tags: Mapping[str, str],
    door: Door,
    chosen: Iterable[str] = (),
) -> tuple[Result, dict[str, float]]:
    """Train a setup with values of its own, such as its seed, as train.py would, as a child of the setup's run.

    The trial keeps where and what. Also returns the metrics that are shown: of test, or of validation where the test
    split is sealed.
    """
    name = run_name(trial)
    config = setup.configured(own, name)
    settings = read_training(resolve(config), setup.data)
    process.seed(settings.seed)
    process.use_threads(settings.threads)
    folder = setup.folder / name
    plan = make_plan(settings, folder, setup.data, setup.weights)
    changed = [*chosen, *(key for key in own if key != SEED)]
    overrides = setup.repeated(config, dict.fromkeys(changed))
    known: dict[str, str] = {
        Tag.PARENT: setup.parent_run,
        Tag.OVERRIDES: overrides,
        Tag.COMMAND: f"{typed('train')} {overrides}",
    }
    with open_run(settings.tracking, start_tags(plan) | known | dict(tags)) as run:
        trial.set_user_attr(RUN, run.run_id)
        with several(plan, run, folder, setup.own_folder):
            result = train_and_test(run, plan, folder, own_folder=setup.own_folder, door=door)
        shown = measures_shown(result, plan)
        trial.set_user_attr(RESULT, shown)
    return result, shown
