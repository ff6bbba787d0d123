"""Trials that train as one program are the trials they would be by themselves."""

from __future__ import annotations

import signal
import time

import optuna
import pytest
from optuna.trial import TrialState

from cnnlab.fused.stack import Stack
from cnnlab.signals import Interruption
from cnnlab.sweeps.storage import CONTINUES, RUN
from cnnlab.sweeps.study import REASON, RESULT, counted, open_study
from cnnlab.sweeps.together import Conductor
from cnnlab.sweeps.watch import Watch
from cnnlab.tracking.schema import Tag
from sweep_bench import SEARCH, Bench, worker_order
from sweep_commands import reported, start, study_in, tracked_runs, workers_of

OWN = {
    "optimizer.lr": "interval(0.0001, 0.1)",
    "optimizer.weight_decay": "interval(0.0, 0.1)",
    "regularization.l2": "interval(0.0, 0.1)",
    "regularization.label_smoothing": "interval(0.0, 0.5)",
}
# What they differ in, in the order of OWN.
TRIED = [(0.001, 0.0, 0.0, 0.0), (0.003, 0.01, 0.001, 0.1), (0.0005, 0.0, 0.01, 0.2)]
SINGLE = "trainer.precision=32-true"
# What differs with the time that passes.
TIMES = ("epoch_seconds", "samples_per_second", "training_seconds")


def conductor(bench: Bench, most: int, total: int | None) -> Conductor:
    changes = {"fused": most, "upward": ("val/acc",), "parent_run": bench.parent}
    order = worker_order(bench, total).model_copy(update=changes)
    return Conductor(bench.study, bench.lock, bench.task, order)


def together(bench: Bench, *parameters: dict) -> list[optuna.trial.FrozenTrial]:
    for wanted in parameters:
        bench.study.enqueue_trial(wanted)
    assert conductor(bench, len(parameters), None).take()
    return bench.study.get_trials()


def metrics(bench: Bench, trial: optuna.trial.FrozenTrial) -> dict[str, list[float]]:
    names = bench.client.get_run(trial.user_attrs[RUN]).data.metrics
    return {name: bench.history(trial, name) for name in sorted(names) if not name.endswith(TIMES)}


@pytest.mark.parametrize(
    "told",
    [
        ("model=dnn", "optimizer=adamw", "scheduler=cosine"),
        ("model=dnn", "model.normalization=batch", "regularization=dropout", "optimizer=sgd", "optimizer.momentum=0.9"),
        ("model=simple_cnn", "model.filters=[4,6]", "model.normalization=batch", "regularization=dropout"),
    ],
    ids=" ".join,
)
def test_each_is_what_it_would_be_by_itself(tmp_path, told):
    bench = Bench(tmp_path, *told, SINGLE, "trainer.max_epochs=2", search=OWN)
    wanted = [dict(zip(OWN, values, strict=True)) for values in TRIED]
    alone = bench.run(*wanted)
    bench.study, bench.lock = open_study(bench.sweep, "another", bench.goals.directions)
    fused = together(bench, *wanted)
    for one, other in zip(alone, fused, strict=True):
        assert other.state == TrialState.COMPLETE
        assert metrics(bench, other) == {
            name: pytest.approx(values, abs=1e-4) for name, values in metrics(bench, one).items()
        }
        assert other.value == pytest.approx(one.value, abs=1e-4)
        assert list(other.user_attrs[RESULT]) == list(one.user_attrs[RESULT])
        ours, theirs = (bench.client.get_run(trial.user_attrs[RUN]) for trial in (other, one))
        assert ours.info.status == "FINISHED"
        assert set(ours.data.tags) - set(theirs.data.tags) == {"trial.fused"}
        assert ours.data.tags["overrides"] == theirs.data.tags["overrides"]
        assert ours.data.tags["trial.fused"] == "3"
    assert fused[0].value != fused[2].value


class Second(optuna.pruners.BasePruner):
    """Prunes the second trial of a study after its first epoch."""

    def prune(self, study, trial):
        return trial.number == 1


def test_one_that_is_pruned_fails_or_stops_leaves_the_stack(tmp_path, monkeypatch):
    told = ("optimizer=sgd", "callbacks.early_stopping.patience=1", "trainer.max_epochs=3", SINGLE)
    bench = Bench(tmp_path, *told, search=OWN, pruner=Second())
    ends = [(0.01, 0.0, 0.0, 0.1), (0.01, 0.0, 0.001, 0.0), (1e-12, 0.0, 0.0, 0.0), (1e30, 0.0, 0.0, 0.0)]
    wanted = [dict(zip(OWN, values, strict=True)) for values in ends]
    alone = bench.run(*wanted)
    kept = []
    keep = Stack.keep
    monkeypatch.setattr(Stack, "keep", lambda stack, places: kept.append(list(places)) or keep(stack, places))
    bench.study, bench.lock = open_study(bench.sweep, "another", bench.goals.directions, pruner=Second())
    fused = together(bench, *wanted)
    assert kept == [[0, 2], [0]]
    states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE, TrialState.FAIL]
    assert [trial.state for trial in fused] == [trial.state for trial in alone] == states
    for one, other in zip(alone, fused, strict=True):
        assert other.intermediate_values == pytest.approx(one.intermediate_values, abs=1e-4)
        assert metrics(bench, other) == {
            name: pytest.approx(values, abs=1e-4) for name, values in metrics(bench, one).items()
        }
        ours, theirs = (bench.client.get_run(trial.user_attrs[RUN]) for trial in (other, one))
        assert ours.info.status == theirs.info.status
        assert ours.data.tags.get(Tag.TRIAL_STATE) == theirs.data.tags.get(Tag.TRIAL_STATE)
    assert len(fused[0].intermediate_values) == 3 and len(fused[2].intermediate_values) == 2
    assert fused[3].user_attrs[REASON] == alone[3].user_attrs[REASON]
    assert fused[3].user_attrs[REASON].startswith("Diverged: the loss is nan in epoch 1, step ")


@pytest.mark.parametrize("told", [("optimizer=adam", "scheduler=cosine"), ("optimizer=sgd", "optimizer.momentum=0.9")])
def test_one_that_was_pruned_goes_on_later_by_itself(tmp_path, told):
    bench = Bench(tmp_path, *told, "trainer.max_epochs=3", SINGLE, search=OWN, pruner=Second())
    wanted = [dict(zip(OWN, values, strict=True)) for values in TRIED[:2]]
    assert [trial.state.name for trial in together(bench, *wanted)] == ["COMPLETE", "PRUNED"]
    bench.study.pruner = optuna.pruners.NopPruner()
    bench.study.enqueue_trial(wanted[1], user_attrs={CONTINUES: 1})
    assert conductor(bench, 4, None).take()
    continued = bench.study.get_trials()[2]
    assert continued.state == TrialState.COMPLETE
    bench.study, bench.lock = open_study(bench.sweep, "another", bench.goals.directions)
    (alone,) = bench.run(wanted[1])
    assert metrics(bench, continued) == {
        name: pytest.approx(values, abs=1e-4) for name, values in metrics(bench, alone).items()
    }


def test_trials_of_one_shape_are_groups_and_a_last_one_trains_by_itself(tmp_path):
    bench = Bench(
        tmp_path, SINGLE, "trainer.max_epochs=1", search={**SEARCH, "optimizer.lr": "interval(0.001, 0.1)"}, seeds=2
    )
    sizes = [(4, 0.01), (8, 0.02), (4, 0.02), (4, 0.03), (8, 0.05), (8, 0.04)]
    wanted = [{"model.hidden_units.0": units, "optimizer.lr": lr} for units, lr in sizes]
    trials = together(bench, *wanted[:3])
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 3
    tags = [bench.client.get_run(trial.user_attrs[RUN]).data.tags.get(Tag.FUSED) for trial in trials]
    assert tags == ["2", None, "2"]
    assert all(len(trial.user_attrs[RESULT]["seeds"]) == 2 for trial in trials)
    for parameters in wanted[3:]:
        bench.study.enqueue_trial(parameters)
    # Two workers share what is left of a total: of 3 trials one takes 2, though it may take 8.
    bench.sweep = bench.sweep.model_copy(update={"n_workers": 2})
    assert conductor(bench, 8, total=6).take()
    states = [trial.state for trial in bench.study.get_trials()]
    assert states == [TrialState.COMPLETE] * 5 + [TrialState.WAITING]


def test_an_interruption_ends_every_run(tmp_path, monkeypatch):
    bench = Bench(tmp_path, SINGLE, search=OWN)
    wanted = [dict(zip(OWN, values, strict=True)) for values in TRIED]
    told = []

    def stopped(watch, epoch, metrics):
        told.append(epoch)
        if len(told) == 3:
            raise Interruption(signal.SIGTERM)

    monkeypatch.setattr(Watch, "see", stopped)
    with pytest.raises(Interruption):
        together(bench, *wanted)
    trials = bench.study.get_trials()
    assert [trial.state for trial in trials] == [TrialState.RUNNING] * 3  # the launch queues them again
    assert {bench.client.get_run(trial.user_attrs[RUN]).info.status for trial in trials} == {"KILLED"}


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_no_trial(tmp_path):
    few = ("sweep.fused=4", "sweep.n_trials=6", "sweep.n_workers=1", "trainer.max_epochs=4")
    process = start(tmp_path, *few, "pruner=none", "callbacks=last_checkpoint")
    while reported(tmp_path) < 4 and process.poll() is None:
        time.sleep(0.05)
    (worker,) = workers_of(process)
    worker.kill()
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    trials = study_in(tmp_path).get_trials()
    killed = [trial.state for trial in trials].count(TrialState.FAIL)
    assert killed > 1
    assert [trial.state for trial in counted(trials)] == [TrialState.COMPLETE] * 6
    runs = [run for run in tracked_runs(tmp_path) if Tag.TRIAL in run.data.tags]
    ended = [run.info.status for run in runs]
    assert ended.count("FINISHED") == 6 and set(ended) <= {"FINISHED", "KILLED"}
    assert [run for run in runs if run.info.status == "KILLED" and Tag.FUSED in run.data.tags]
