"""A study, a tracking store and trials to run in them, without workers."""

from __future__ import annotations

from pathlib import Path

import mlflow
import optuna
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from cnnlab.settings.read import read, resolve
from cnnlab.settings.sweep import Sweep, WorkerOrder
from cnnlab.sweeps.goals import Goals
from cnnlab.sweeps.grammar import read_space
from cnnlab.sweeps.limits import Limits
from cnnlab.sweeps.order import SWEEP_SECTIONS
from cnnlab.sweeps.setup import DatasetCache, Setup
from cnnlab.sweeps.storage import RUN, StudyLock
from cnnlab.sweeps.study import offered, open_study
from cnnlab.sweeps.trial import Task
from cnnlab.tracking.store import prepare

CONF = str(Path(__file__).resolve().parents[1] / "conf")
SEARCH = {"model.hidden_units.0": "choice(4, 8)"}


class Bench:
    """A study, a tracking store and a task in one folder."""

    def __init__(
        self,
        folder: Path,
        *overrides: str,
        search=None,
        goals=("val/acc",),
        seeds=1,
        pruner=None,
        limits=None,
        seed_by_seed=False,
    ):
        uri = f"sqlite:///{folder}/mlflow.db"
        storage = f"sweep.storage=sqlite:///{folder}/sweeps.db"
        with initialize_config_dir(CONF, version_base="1.3"):
            composed = compose(
                "sweep", ["model=dnn", "search=none", "sweep.name=s", storage, f"tracking.uri={uri}", *overrides]
            )
        self.config = OmegaConf.create(
            {key: node for key, node in composed.items_ex(resolve=False) if key not in SWEEP_SECTIONS}
        )
        experiment = prepare(uri, "digits")
        mlflow.set_tracking_uri(uri)
        self.client = mlflow.MlflowClient()
        self.parent = self.client.create_run(experiment).info.run_id
        self.goals = Goals(goals)
        self.data = DatasetCache(test=False)
        self.sweep = read(Sweep, resolve(composed)["sweep"])
        groups = {"optimizer": "adam"}
        setup = Setup(self.config, ("model=dnn",), self.parent, self.data, folder, chosen=groups)
        space = read_space(search or SEARCH, setup.configurations)
        self.task = Task(setup, space, self.goals, seeds, Limits(limits or {}), seed_by_seed)
        sampler = optuna.samplers.RandomSampler(seed=0)
        self.study, self.lock = open_study(self.sweep, "s", self.goals.directions, sampler, pruner)

    def run(self, *parameters: dict) -> list[optuna.trial.FrozenTrial]:
        for wanted in parameters:
            self.study.enqueue_trial(wanted)
        self.study.optimize(self.task, n_trials=len(parameters), catch=(Exception,))
        return self.study.get_trials()

    def history(self, trial: optuna.trial.FrozenTrial, metric: str) -> list[float]:
        return [point.value for point in self.client.get_metric_history(trial.user_attrs[RUN], metric)]


def worker_order(bench: Bench, total: int | None) -> WorkerOrder:
    """Return what a worker of the bench's study is told, to go on until the study has `total` trials."""
    return WorkerOrder(
        study="s",
        sweep=bench.sweep,
        goals=bench.goals.names,
        upward=bench.goals.upward,
        total=total,
        search=None,
        config="",
        overrides=(),
        contenders={},
        waits=False,
        chosen=(),
        choices={},
        own_folder=None,
        parent_run="",
        folder="",
        threads=1,
        since=0,
    )


def objective(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", 0, 1)


def drained(study: optuna.Study, lock: StudyLock, total: int | None) -> int:
    """Take trials as a worker does until none is offered; return how many."""
    taken = 0
    while True:
        with offered(study, lock, total) as waiting:
            if not waiting:
                return taken
            study.optimize(objective, n_trials=1)
            taken += 1
