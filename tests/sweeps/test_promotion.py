"""Pruned trials go on where they were stopped, once they would not be stopped any more."""

from __future__ import annotations

import signal

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from cnnlab.classifier import Classifier
from cnnlab.settings.base import Own
from cnnlab.settings.read import read
from cnnlab.signals import Interruption
from cnnlab.sweeps.promotion import KEPT, Promotion, promotion, tidy
from cnnlab.sweeps.storage import CONTINUES, RUN, STATE, state_of
from cnnlab.sweeps.study import requeue
from cnnlab.sweeps.watch import Watch
from sweep_bench import Bench


class Refuses(optuna.pruners.BasePruner):
    """Prunes the trials of one size after an epoch, while it is asked to."""

    def __init__(self, epoch: int):
        self.epoch = epoch

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        return trial.params["model.hidden_units.0"] == 8 and trial.last_step == self.epoch


@pytest.mark.parametrize("ema", ["null", "0.9"])
def test_a_promoted_trial_goes_on_as_if_it_had_never_been_stopped(tmp_path, ema):
    given = ["trainer.max_epochs=4", "regularization.dense_dropout=0.3", "optimizer.lr=0.01"]
    given.append(f"callbacks.ema_decay={ema}")
    (tmp_path / "whole").mkdir()
    uninterrupted = Bench(tmp_path / "whole", *given)
    (whole,) = uninterrupted.run({"model.hidden_units.0": 8})
    bench = Bench(tmp_path, *given, pruner=Refuses(2))
    (stopped,) = bench.run({"model.hidden_units.0": 8})
    assert stopped.state == TrialState.PRUNED and list(stopped.intermediate_values) == [1, 2]
    (file,) = tmp_path.rglob("*.ckpt")
    assert state_of(stopped) == file
    for pruner in (Refuses(3), optuna.pruners.NopPruner()):
        bench.study.pruner = pruner
        promoted = Promotion(1.0, 1).candidate(bench.study)
        assert promoted is not None
        bench.study.enqueue_trial(promoted.params, user_attrs={CONTINUES: promoted.number})
        bench.study.optimize(bench.task, n_trials=1)
    last = bench.study.get_trials()[-1]
    assert last.intermediate_values == whole.intermediate_values
    assert last.value == whole.value
    for metric in ("train/loss", "val/loss"):
        assert bench.history(last, metric)[:4] == uninterrupted.history(whole, metric)[:4]
    assert bench.client.get_run(last.user_attrs[RUN]).data.tags["trial.continues"] == "1", "which went on with 0"
    assert Promotion(1.0, 1).candidate(bench.study) is None, "it goes on once"


def test_a_trial_whose_process_died_goes_on_from_its_last_epoch(tmp_path, monkeypatch):
    given = ["trainer.max_epochs=4", "regularization.dense_dropout=0.3", "optimizer.lr=0.01"]
    (tmp_path / "whole").mkdir()
    (whole,) = Bench(tmp_path / "whole", *given).run({"model.hidden_units.0": 8})
    bench = Bench(tmp_path, *given)

    def see(watch, epoch, metrics):
        if epoch == 4:
            raise Interruption(signal.SIGTERM)  # as the death of a process, nobody makes a failure of it
        seen(watch, epoch, metrics)

    seen = Watch.see
    monkeypatch.setattr(Watch, "see", see)
    with pytest.raises(Interruption):
        bench.run({"model.hidden_units.0": 8})
    (dead,) = bench.study.get_trials()
    assert dead.state == TrialState.RUNNING and list(dead.intermediate_values) == [1, 2, 3]
    requeue(bench.study, bench.lock, dead, 1)
    monkeypatch.setattr(Watch, "see", seen)
    trained: list[int] = []
    monkeypatch.setattr(Classifier, "on_train_epoch_start", counting(Classifier.on_train_epoch_start, trained))
    bench.study.optimize(bench.task, n_trials=1)
    last = bench.study.get_trials()[-1]
    assert last.intermediate_values == whole.intermediate_values and last.value == whole.value
    assert len(trained) == 1, "three of the four epochs were there"
    assert bench.client.get_run(last.user_attrs[RUN]).data.tags["trial.continues"] == "0"
    assert list(tmp_path.glob("states/*")) == [], "no state is left behind"


def counting(call, calls: list[int]):
    """Return a method that does the same and counts its calls."""

    def counted(self, *arguments):
        calls.append(1)
        return call(self, *arguments)

    return counted


def pruned(study: optuna.Study, folder, *values: float) -> None:
    """Add trials that were pruned after three epochs with these values, each with its state."""
    for value in values:
        file = folder / f"{value}.ckpt"
        file.touch()
        steps = {1: 0.1, 2: 0.2, 3: value}
        space = {"lr": optuna.distributions.FloatDistribution(0.0, 1.0)}
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED,
                value=value,
                intermediate_values=steps,
                params={"lr": value},
                distributions=space,
                user_attrs={STATE: str(file)},
            )
        )


def test_the_share_that_a_pruner_lets_pass_is_promoted_the_best_first(tmp_path):
    study = optuna.create_study(direction="maximize")
    pruned(study, tmp_path, 0.5, 0.8, 0.6, 0.7)
    third = promotion(read(Own, {"_target_": "optuna.pruners.HyperbandPruner", "reduction_factor": 3}))
    assert third is not None and third.share == pytest.approx(1 / 3)
    waits = read(Own, {"_target_": "optuna.pruners.HyperbandPruner", "reduction_factor": 3, "bootstrap_count": 4})
    assert promotion(waits).candidate(study) is None, "it waits for five"
    assert third.candidate(study).params == {"lr": 0.8}
    study.enqueue_trial({"lr": 0.8}, user_attrs={CONTINUES: 1})
    assert third.candidate(study) is None, "the second best of four is not in the best third"
    pruned(study, tmp_path, 0.1, 0.2)
    assert third.candidate(study).params == {"lr": 0.7}
    (tmp_path / "0.7.ckpt").unlink()
    assert third.candidate(study) is None, "its state is gone"
    half = promotion(read(Own, {"_target_": "optuna.pruners.MedianPruner"}))
    assert half.candidate(study).params == {"lr": 0.6}
    assert promotion(read(Own, {"_target_": "optuna.pruners.NopPruner"})) is None


def test_states_of_the_worst_are_deleted(tmp_path):
    study = optuna.create_study(direction="minimize")
    values = [index / 100 for index in range(KEPT + 3)]
    pruned(study, tmp_path, *values)
    tidy(study)
    assert sorted(float(file.stem) for file in tmp_path.glob("*.ckpt")) == values[:KEPT]
