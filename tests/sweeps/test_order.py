"""What is refused before a sweep starts, and what is adapted and said."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cnnlab.sweeps.methods import build_pruner, build_sampler
from sweep_commands import order, problems

CONF = Path(__file__).resolve().parents[2] / "conf"
SEARCHES = {
    "deep_cnn": "deep_cnn",
    "simple_cnn": "simple_cnn",
    "fashion_cnn": "fashion_cnn",
    "mlp": "mlp",
    "depth": "deep_cnn",
    "training": "dnn",
}


def test_all_shipped_searches_are_listed():
    assert {file.stem for file in (CONF / "search").glob("*.yaml")} == {"none", *SEARCHES}


@pytest.mark.parametrize(("search", "model"), SEARCHES.items())
def test_shipped_searches_pass_every_check(tmp_path, search, model):
    assert len(order(tmp_path, f"search={search}", f"model={model}").space.parameters) >= 2


@pytest.mark.parametrize("sampler", sorted(file.stem for file in (CONF / "sampler").glob("*.yaml")))
@pytest.mark.parametrize("pruner", sorted(file.stem for file in (CONF / "pruner").glob("*.yaml")))
def test_shipped_samplers_and_pruners_are_optunas(tmp_path, sampler, pruner):
    search = ["search=none", '+search.model.hidden_units.0="range(8, 64, 8)"']
    made = order(tmp_path, f"sampler={sampler}", f"pruner={pruner}", "sweep.seeds=5", *search)
    assert type(build_sampler(made.sampler, made.space, made.goals)).__module__.startswith("optuna.samplers")
    assert type(build_pruner(made.pruner)).__module__.startswith("optuna.pruners")


def test_hyperband_knows_the_number_of_epochs(tmp_path):
    assert order(tmp_path, "pruner=hyperband", "trainer.max_epochs=27").pruner.arguments["max_resource"] == 27


def test_an_end_of_a_range_that_cannot_be_built_is_refused(tmp_path):
    lines = problems(tmp_path, "model=deep_cnn", "search=none", '+search.model.pool_size="range(1, 4)"')
    assert len(lines) == 1
    assert lines[0].startswith("search allows model.pool_size=3, but model: pool")


def test_a_batch_larger_than_the_data_is_refused(tmp_path):
    lines = problems(tmp_path, '+search.batch_size="choice(32, 5000)"')
    assert ["batch_size=5000" in line for line in lines] == [True]


def test_problems_of_all_sections_come_together(tmp_path):
    lines = problems(
        tmp_path,
        "sweep.n_trials=0",
        "sweep.objective=test/acc",
        "sweep.storage=mysql://host/db",
        "sweep.heartbeat=60",
        "+sweep.n_trails=5",
        "optimizer.lr=-1",
        "pruner.max_resource=x",
    )
    text = "\n".join(lines)
    for part in (
        "sweep.n_trials=0",
        "'test/acc'",
        "mysql",
        "sweep.n_trails is no",
        "optimizer.lr=-1",
        "pruner: ",
    ):
        assert part in text


def test_a_heartbeat_slower_than_its_grace_is_refused(tmp_path):
    assert "sweep.grace=10" in problems(tmp_path, "sweep.grace=10")[0]


def test_a_trial_over_several_devices_is_refused(tmp_path):
    lines = problems(tmp_path, "trainer.devices=2", "trainer.accelerator=cpu")
    assert lines[0].startswith("trainer.devices=2: every training is on one device")


def test_no_validation_split_is_refused(tmp_path):
    lines = problems(tmp_path, "dataset.validation.fraction=0", "callbacks=last_checkpoint")
    assert "needs a validation split" in lines[0]


def test_grid_needs_finite_values_and_sets_the_total(tmp_path):
    assert ["has no end of values" in line for line in problems(tmp_path, "sampler=grid")] == [True, True]
    made = order(tmp_path, "sampler=grid", "search=none", '+search.model.hidden_units.0="choice(4, 8, 16)"')
    assert made.settings.n_trials == 3
    assert made.notes == ("the grid has 3 points: sweep.n_trials=3",)


def test_cmaes_needs_numbers(tmp_path):
    search = ["search=none", '+search.model.hidden_units.0="choice(4, 8)"']
    assert "searches numbers" in problems(tmp_path, "sampler=cmaes", *search)[0]
    assert "one objective" in problems(tmp_path, "sampler=cmaes", "sweep.objective=[val/acc,parameters]")[0]


def test_two_objectives_turn_pruning_off_and_say_so(tmp_path):
    made = order(tmp_path, "sweep.objective=[val/acc,latency]")
    assert made.pruner.plain()["_target_"] == "optuna.pruners.NopPruner"
    assert made.notes[0].startswith("pruning is off")


def test_which_trials_train_together_is_said(tmp_path):
    told = {
        ("sweep.fused=8",): ("sweep.fused=8: of those trials that have the same model.hidden_units",),
        ("sweep.fused=8", "augmentation=flip"): (
            "sweep.fused=8 has no effect with augmentation=flip: each trial trains by itself",
        ),
        ("sweep.fused=auto", "model=simple_cnn", "search=simple_cnn", "trainer.accelerator=cpu"): (
            "sweep.fused=auto: each trial trains by itself, since convolutions were measured to gain nothing on a CPU",
        ),
        ("sweep.fused=null",): (),
    }
    for asked, notes in told.items():
        assert order(tmp_path, "trainer.precision=32-true", *asked).notes == notes
    (refused,) = problems(tmp_path, "sweep.fused=8", "sweep.devices_per_trial=2", "trainer.accelerator=cpu")
    assert refused.startswith(
        "sweep.fused=8 is not allowed; sweep.fused takes null or 1 beside sweep.devices_per_trial=2"
    )


def test_a_chosen_metric_is_optimized_in_its_own_direction(tmp_path):
    assert order(tmp_path, "sweep.objective=val/f1").goals.directions == ["maximize"]
    two = order(tmp_path, "sweep.objective=[val/calibration_error,parameters]", "metrics=[f1,calibration_error]")
    assert two.goals.directions == ["minimize", "minimize"]
    assert order(tmp_path, "metrics=[kappa]").definition() == order(tmp_path).definition()


def test_a_metric_that_is_not_chosen_is_no_objective(tmp_path):
    assert problems(tmp_path, "sweep.objective=val/kappa") == [
        "sweep.objective='val/kappa' is not measured; add metrics=[kappa]"
    ]
    assert "did you mean 'val/kappa'?" in problems(tmp_path, "sweep.objective=val/kapa", "metrics=[kappa]")[0]
    assert len(problems(tmp_path, "sweep.objective=val/f1", "metrics=[f1]", "optimizer.lr=0")) == 1


@pytest.mark.parametrize("objective", ["[val/acc,val/acc]", "[val/acc,paramters]", "[parameters,val/acc]", "[]"])
def test_objectives_that_make_no_sense_are_refused(tmp_path, objective):
    assert "sweep.objective" in problems(tmp_path, f"sweep.objective={objective}")[0]


def test_the_definition_ignores_where_a_trial_runs(tmp_path):
    same = order(
        tmp_path, "dataset.root=/elsewhere", "trainer.accelerator=cpu", "sweep.n_workers=4", "sweep.n_trials=9"
    )
    assert same.definition() == order(tmp_path).definition()
    assert order(tmp_path, "optimizer.eps=1e-5").definition() != order(tmp_path).definition()
    assert order(tmp_path, "sweep.seeds=2").definition() != order(tmp_path).definition()


def test_the_weights_that_trials_begin_with_are_part_of_the_sweep(tmp_path):
    small = ["model.hidden_units=[8]", "search=none", '+search.optimizer.lr="interval(0.001, 0.1)"']
    definitions = {}
    for name, value in (("a", 1.0), ("copy", 1.0), ("other", 2.0)):
        torch.save({"layers.dense1.weight": torch.full((8, 784), value)}, tmp_path / f"{name}.pt")
        made = order(tmp_path, *small, f"init_from='{tmp_path}/{name}.pt'")
        definitions[name] = made.definition()
        assert made.notes[0] == f"begins with 1 of 4 tensors of {tmp_path}/{name}.pt"
    assert definitions["a"] == definitions["copy"] != definitions["other"]
    (line,) = problems(tmp_path, *small, "init_from=nowhere.pt")
    assert line.startswith("init_from=nowhere.pt is not a file")
