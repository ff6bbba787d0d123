"""One trial at a time: its value, its record, and what it must not do."""

from __future__ import annotations

import time

import optuna
import pytest
import torch
from optuna.trial import TrialState

from cnnlab.settings.base import Own
from cnnlab.settings.read import read
from cnnlab.sweeps import story
from cnnlab.sweeps.goals import cost
from cnnlab.sweeps.methods import build_sampler
from cnnlab.sweeps.space import apply
from cnnlab.sweeps.storage import RUN
from cnnlab.sweeps.study import DUPLICATE, EXCESS, REASON, RESULT, THREADS, excess
from cnnlab.sweeps.view import tally
from cnnlab.sweeps.worker import hopeless
from cnnlab.training import fit
from sweep_bench import Bench


def test_a_trial_is_worth_the_epoch_whose_checkpoint_would_be_kept(tmp_path):
    bench = Bench(tmp_path, "trainer.max_epochs=3", "optimizer.lr=0.03")
    (trial,) = bench.run({"model.hidden_units.0": 8})
    losses, accuracies = (bench.history(trial, name)[:3] for name in ("val/loss", "val/acc"))
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


@pytest.mark.parametrize(
    ("ending", "epochs"),
    [
        (("callbacks.early_stopping.patience=1",), 2),
        (("callbacks.early_stopping.patience=1", "+trainer.min_epochs=4"), 4),
        (("+trainer.max_steps=123",), 3),  # of 41 an epoch
    ],
)
def test_a_trial_that_stops_by_itself_is_not_pruned_in_that_epoch(tmp_path, ending, epochs):
    # Nothing is learned, so the second epoch is no better than the first; the pruner takes any epoch from the last.
    pruner = optuna.pruners.ThresholdPruner(lower=2.0, n_warmup_steps=epochs)
    bench = Bench(tmp_path, "trainer.max_epochs=6", "optimizer.lr=1e-12", *ending, pruner=pruner)
    (trial,) = bench.run({"model.hidden_units.0": 8})
    assert list(trial.intermediate_values) == list(range(1, epochs + 1))
    assert trial.state == TrialState.COMPLETE
    assert trial.value == trial.user_attrs[RESULT]["val/acc"]
    tags = bench.client.get_run(trial.user_attrs[RUN]).data.tags
    assert tags["trial.state"] == "complete"


def test_a_trial_that_goes_on_may_be_pruned_though_it_asked_to_stop(tmp_path):
    pruner = optuna.pruners.ThresholdPruner(lower=2.0, n_warmup_steps=3)
    stubborn = ("callbacks.early_stopping.patience=1", "+trainer.min_epochs=5")
    bench = Bench(tmp_path, "trainer.max_epochs=6", "optimizer.lr=1e-12", *stubborn, pruner=pruner)
    (trial,) = bench.run({"model.hidden_units.0": 8})
    assert trial.state == TrialState.PRUNED


def test_a_loss_that_is_no_number_fails_the_trial_with_its_reason(tmp_path):
    bench = Bench(tmp_path, "trainer.max_epochs=2", "optimizer=sgd", "optimizer.lr=1e30")
    trial, other = bench.run({"model.hidden_units.0": 8}, {"model.hidden_units.0": 4})
    assert trial.state == other.state == TrialState.FAIL
    assert trial.user_attrs[REASON].startswith("Diverged: the loss is nan in epoch 1, step ")
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
        config = apply(bench.config, {"seed": seed, "model.hidden_units": [8, 16]})
        alone.append(story.alone(bench.task.train(None, config, 1, Sink())).kept()["val/acc"])
    assert trial.user_attrs[RESULT]["seeds"] == pytest.approx(alone)
    assert trial.value == pytest.approx(sum(alone) / 3)
    metrics = bench.client.get_run(trial.user_attrs[RUN]).data.metrics
    assert metrics["val/acc"] == metrics["best/val/acc"] == pytest.approx(trial.value) != alone[0]


class Sink:
    def log_epoch(self, epoch, metrics) -> None:
        pass


def test_two_objectives_weigh_accuracy_against_size(tmp_path):
    bench = Bench(tmp_path, "trainer.max_epochs=1", goals=("val/acc", "parameters"))
    (trial,) = bench.run({"model.hidden_units.0": 4})
    # 784 pixels -> 4 -> 16 -> 10 classes, with biases
    assert trial.values[1] == (784 * 4 + 4) + (4 * 16 + 16) + (16 * 10 + 10)
    assert bench.study.directions == [optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE]


def test_latency_is_measured_in_milliseconds_an_image():
    class Slow(torch.nn.Linear):
        def forward(self, images):
            time.sleep(0.005)
            return super().forward(images.flatten(1))

    assert cost("latency", Slow(4, 2), (1, 2, 2)) >= 5


def test_a_trial_is_kept_like_a_run_and_says_how_to_repeat_it(tmp_path):
    bench = Bench(tmp_path, "trainer.max_epochs=2", goals=("val/acc", "parameters"))
    (trial,) = bench.run({"model.hidden_units.0": 8})
    run = bench.client.get_run(trial.user_attrs[RUN])
    assert run.data.metrics["best/val/acc"] == pytest.approx(trial.values[0], rel=1e-6)
    assert run.data.metrics["cost/parameters"] == trial.values[1]
    assert run.data.metrics["epochs"] == 2
    threads = str(torch.get_num_threads())
    assert run.data.params["threads"] == run.data.tags["device.threads"] == str(trial.user_attrs[THREADS]) == threads
    tags = run.data.tags
    assert (tags["sweep.role"], tags["dataset"], tags["model"]) == ("trial", "digits", "dnn")
    assert tags["overrides"] == "model=dnn 'model.hidden_units=[8,16]' seed=0"
    assert "settings" not in tags, "that tag marks results"


def test_every_trial_begins_with_the_weights_that_were_read_once(tmp_path, monkeypatch):
    torch.save({"layers.dense1.weight": torch.ones(8, 784)}, tmp_path / "a.pt")
    begun = []

    def noted(plan, *rest):
        begun.append(plan.classifier.network)
        return fit(plan, *rest)

    monkeypatch.setattr("cnnlab.sweeps.story.fit", noted)
    frozen = ("freeze=[dense1.weight]", f"init_from='{tmp_path}/a.pt'", "model.hidden_units=[8]")
    bench = Bench(tmp_path, "trainer.max_epochs=1", *frozen, search={"optimizer.lr": "choice(0.01, 0.1)"})
    first, second = bench.run({"optimizer.lr": 0.01}, {"optimizer.lr": 0.1})
    assert first.value is not None and second.value is not None
    assert len(begun) == 2
    for network in begun:
        assert torch.equal(network.layers.dense1.weight, torch.ones(8, 784))
        assert not torch.equal(network.layers.dense1.bias, torch.zeros(8))
    assert len(bench.task.setup.weights.loaded) == 1


def test_a_network_that_costs_too_much_is_not_trained(tmp_path):
    bench = Bench(tmp_path, "trainer.max_epochs=1", limits={"parameters": 5000})
    small, large, again = bench.run(*({"model.hidden_units.0": size} for size in (4, 8, 8)))
    assert (small.state, large.state, again.state) == (TrialState.COMPLETE, TrialState.PRUNED, TrialState.PRUNED)
    assert tally(bench.study.get_trials()) == {"complete": 1, "infeasible": 2, "ended": 3}
    assert large.user_attrs[REASON] == again.user_attrs[REASON] == "parameters 6594 > 5000"
    assert excess(large)[0] == pytest.approx(6594 / 5000 - 1) and excess(small)[0] < 0
    run = bench.client.get_run(large.user_attrs[RUN])
    assert run.data.tags["trial.state"] == "infeasible" and run.data.metrics == {"cost/parameters": 6594}
    assert bench.goals.best(bench.study.get_trials()).number == small.number


def test_optunas_samplers_learn_what_costs_too_much(tmp_path):
    bench = Bench(tmp_path)
    tpe = read(Own, {"_target_": "optuna.samplers.TPESampler", "seed": 0})
    bench.study.sampler = build_sampler(tpe, bench.task.space, bench.goals, constrained=True)
    bench.study.enqueue_trial({"model.hidden_units.0": 8})
    bench.study.optimize(lambda trial: trial.set_user_attr(EXCESS, [0.5]) or 1.0, n_trials=1)
    assert bench.study.get_trials()[0].system_attrs["constraints"] == [0.5]


def test_a_trial_that_is_worse_seed_by_seed_is_stopped_between_them(tmp_path):
    pruner = optuna.pruners.WilcoxonPruner(p_threshold=0.3)
    bench = Bench(tmp_path, "trainer.max_epochs=1", seeds=4, pruner=pruner, seed_by_seed=True)
    good, bad = bench.run({"model.hidden_units.0": 8, "optimizer.lr": 0.02}, {"model.hidden_units.0": 4})
    assert good.state == TrialState.COMPLETE and list(good.intermediate_values) == [0, 1, 2, 3]
    assert bad.state == TrialState.PRUNED and 2 <= len(bad.intermediate_values) < 4
    assert bad.user_attrs[RESULT]["seeds"] == list(bad.intermediate_values.values())
    assert good.value == pytest.approx(sum(good.intermediate_values.values()) / 4)
    assert bench.client.get_run(bad.user_attrs[RUN]).data.tags["trial.state"] == "pruned"


def test_options_of_a_group_are_trained_with_their_own_keys_and_repeated(tmp_path):
    search = {"optimizer": "choice(adam, sgd)", "optimizer.momentum": "interval(0.5, 0.9)"}
    bench = Bench(tmp_path, "trainer.max_epochs=1", search=search)
    adam, sgd = bench.run({"optimizer": "adam"}, {"optimizer": "sgd", "optimizer.momentum": 0.75})
    assert adam.params == {"optimizer": "adam"}
    run = bench.client.get_run(sgd.user_attrs[RUN]).data
    assert (run.params["optimizer.name"], run.params["optimizer.momentum"]) == ("sgd", "0.75")
    assert run.tags["overrides"] == "model=dnn optimizer=sgd optimizer.momentum=0.75 seed=0"
    assert run.tags["optimizer"] == "sgd"
