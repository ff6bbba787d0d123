"""One trial at a time: its value, its record, and what it must not do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mlflow
import optuna
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from optuna.trial import TrialState

from cnnlab.sweep.check import OWN
from cnnlab.sweep.goals import Goals
from cnnlab.sweep.space import read_space
from cnnlab.sweep.study import DUPLICATE, REASON, RESULT, RUN, open_study
from cnnlab.sweep.trial import DataInMemory, Task
from cnnlab.sweep.worker import hopeless
from cnnlab.tracking.store import prepare

CONF = str(Path(__file__).resolve().parents[2] / "conf")
SEARCH = {"model.hidden_units.0": "choice(4, 8)"}


class Bench:
    """A study, a tracking store and a task in one folder."""

    def __init__(self, folder: Path, *overrides: str, search=None, goals=("val/acc",), seeds=1, pruner=None):
        uri = f"sqlite:///{folder}/mlflow.db"
        with initialize_config_dir(CONF, version_base="1.3"):
            composed = compose("sweep", ["model=dnn", "search=none", "sweep.name=s", f"tracking.uri={uri}", *overrides])
        self.config = OmegaConf.create({key: node for key, node in composed.items_ex(resolve=False) if key not in OWN})
        experiment = prepare(uri, "digits")
        mlflow.set_tracking_uri(uri)
        self.client = mlflow.MlflowClient()
        parent = self.client.create_run(experiment).info.run_id
        self.goals = Goals(goals)
        self.data = DataInMemory(test=False)
        space = read_space(search or SEARCH, self.config)
        self.task = Task(self.config, space, self.goals, seeds, parent, self.data, folder)
        settings = {"storage": f"sqlite:///{folder}/sweeps.db", "heartbeat": 10, "grace": 60, "retries": 1}
        sampler = optuna.samplers.RandomSampler(seed=0)
        self.study, _ = open_study(settings, "s", self.goals.directions, 20, sampler, pruner)

    def run(self, *parameters: dict) -> list[optuna.trial.FrozenTrial]:
        for wanted in parameters:
            self.study.enqueue_trial(wanted)
        self.study.optimize(self.task, n_trials=len(parameters), catch=(Exception,))
        return self.study.get_trials()

    def history(self, trial: optuna.trial.FrozenTrial, metric: str) -> list[float]:
        return [point.value for point in self.client.get_metric_history(trial.user_attrs[RUN], metric)]


def test_a_trial_is_worth_the_epoch_whose_checkpoint_would_be_kept(tmp_path):
    bench = Bench(tmp_path, "trainer.max_epochs=3", "optimizer.lr=0.03")
    (trial,) = bench.run({"model.hidden_units.0": 8})
    losses, accuracies = bench.history(trial, "val/loss"), bench.history(trial, "val/acc")
    kept = losses.index(min(losses))
    assert len(losses) == 3
    assert trial.value == pytest.approx(accuracies[kept])
    assert trial.user_attrs[RESULT]["best_epoch"] == kept + 1
    assert trial.intermediate_values == pytest.approx(dict(enumerate(accuracies, start=1)))
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_trial_has_no_test_split(tmp_path):
    bench = Bench(tmp_path, "trainer.max_epochs=1")
    (trial,) = bench.run({"model.hidden_units.0": 8})
    (data,) = bench.data.loaded.values()
    assert len(data.train_images) == 1437
    assert data.test_images.shape == (0, 1, 28, 28)
    assert not [name for name in bench.client.get_run(trial.user_attrs[RUN]).data.metrics if "test" in name]


def test_the_same_parameters_are_not_trained_twice(tmp_path):
    bench = Bench(tmp_path, "trainer.max_epochs=1")
    first, second = bench.run({"model.hidden_units.0": 8}, {"model.hidden_units.0": 8})
    assert second.user_attrs[DUPLICATE] == 0
    assert second.values == first.values
    assert second.intermediate_values == first.intermediate_values
    assert "train/loss" not in bench.client.get_run(second.user_attrs[RUN]).data.metrics


def test_a_pruned_trial_stops_early_and_its_run_ends_well(tmp_path):
    # Whatever is below 2 is pruned, and so is every accuracy.
    bench = Bench(tmp_path, "trainer.max_epochs=5", pruner=optuna.pruners.ThresholdPruner(lower=2.0))
    trial, again = bench.run({"model.hidden_units.0": 8}, {"model.hidden_units.0": 8})
    assert trial.state == again.state == TrialState.PRUNED
    assert list(trial.intermediate_values) == [1]
    assert len(bench.history(trial, "train/loss")) == 1
    assert again.user_attrs[DUPLICATE] == 0
    run = bench.client.get_run(trial.user_attrs[RUN])
    assert (run.info.status, run.data.tags["trial.state"]) == ("FINISHED", "pruned")


def test_a_trial_is_not_pruned_after_its_last_epoch(tmp_path):
    bench = Bench(tmp_path, "trainer.max_epochs=1", pruner=optuna.pruners.ThresholdPruner(lower=2.0))
    (trial,) = bench.run({"model.hidden_units.0": 8})
    assert trial.state == TrialState.COMPLETE


def test_a_loss_that_is_no_number_fails_the_trial_with_its_reason(tmp_path):
    bench = Bench(tmp_path, "trainer.max_epochs=2", "optimizer=sgd", "optimizer.lr=1e30")
    trial, other = bench.run({"model.hidden_units.0": 8}, {"model.hidden_units.0": 4})
    assert trial.state == other.state == TrialState.FAIL
    assert trial.user_attrs[REASON] == "Diverged: train/loss is nan in epoch 1"
    run = bench.client.get_run(trial.user_attrs[RUN])
    assert (run.info.status, run.data.tags["error"]) == ("FAILED", trial.user_attrs[REASON])
    assert hopeless(bench.study, 0, 2)
    assert not hopeless(bench.study, 0, 3)
    assert not hopeless(bench.study, 1, 2)


def test_a_configuration_that_cannot_be_built_fails_its_trial_alone(tmp_path):
    search = {"model.hidden_units": "choice([8], [-1])"}
    bench = Bench(tmp_path, "trainer.max_epochs=1", search=search)
    bad, good = bench.run({"model.hidden_units": "[-1]"}, {"model.hidden_units": "[8]"})
    assert (bad.state, good.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert "model.hidden_units=[-1]" in bad.user_attrs[REASON]
    assert not hopeless(bench.study, 0, 1)


def test_several_seeds_give_their_mean(tmp_path):
    bench = Bench(tmp_path, "trainer.max_epochs=1", "seed=5", seeds=3)
    (trial,) = bench.run({"model.hidden_units.0": 8})
    alone = []
    for seed in (5, 6, 7):
        bench.task = replace(bench.task, seeds=1, config=OmegaConf.merge(bench.config, {"seed": seed}))
        alone.append(bench.task.train(optuna.trial.FixedTrial({}), resolved(bench, seed), 1, Sink()).kept()["val/acc"])
    assert trial.user_attrs[RESULT]["seeds"] == pytest.approx(alone)
    assert trial.value == pytest.approx(sum(alone) / 3)


class Sink:
    def log_metrics(self, epoch, metrics) -> None:
        pass


def resolved(bench: Bench, seed: int) -> dict:
    values = OmegaConf.merge(bench.config, {"seed": seed})
    OmegaConf.update(values, "model.hidden_units", [8, 16])
    return OmegaConf.to_container(values, resolve=True)


def test_two_objectives_weigh_accuracy_against_size(tmp_path):
    bench = Bench(tmp_path, "trainer.max_epochs=1", goals=("val/acc", "parameters"))
    (trial,) = bench.run({"model.hidden_units.0": 4})
    # 784 pixels -> 4 -> 16 -> 10 classes, with biases
    assert trial.values[1] == (784 * 4 + 4) + (4 * 16 + 16) + (16 * 10 + 10)
    assert bench.study.directions == [optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE]


def test_latency_is_measured_in_milliseconds():
    from cnnlab.sweep.goals import cost

    class Slow(torch.nn.Linear):
        def forward(self, images):
            import time

            time.sleep(0.005)
            return super().forward(images.flatten(1))

    assert 5 <= cost("latency", Slow(4, 2), (1, 2, 2)) < 100


def test_a_worker_goes_on_when_its_trial_was_taken_for_dead(tmp_path):
    bench = Bench(tmp_path, "trainer.max_epochs=1")

    class Slept(Task):
        def run(self, trial):
            if trial.number == 0:
                optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/sweeps.db").tell(
                    0, state=TrialState.FAIL
                )
            return super().run(trial)

    bench.task = Slept(**vars(bench.task))
    bench.study.enqueue_trial({"model.hidden_units.0": 8})
    with pytest.raises(ValueError, match=r"^Cannot tell a FAIL trial"):
        bench.study.optimize(bench.task, n_trials=1, catch=(Exception,))
    bench.study.optimize(bench.task, n_trials=1, catch=(Exception,))
    assert [trial.state for trial in bench.study.get_trials()] == [TrialState.FAIL, TrialState.COMPLETE]
