"""A sweep whose trainings are spread over several devices each."""

from __future__ import annotations

import pytest

from sweep_commands import run, study_in, tracked_runs

GIVEN = ["model=dnn", "search=none", "++search.optimizer.lr='interval(0.0005, 0.02)'", "sampler=random"]
GIVEN += ["trainer.max_epochs=3", "sweep.n_trials=4", "sweep.final_seeds=1", "sweep.objective=val/loss"]
GIVEN += ["regularization=none", "tracking.log_model=false", "trainer.accelerator=cpu", "pruner=median"]
GIVEN += ["pruner.n_startup_trials=1", "pruner.n_warmup_steps=1"]


@pytest.mark.slow
def test_groups_of_devices_find_what_single_ones_do(tmp_path):
    values, states = [], []
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        folder.mkdir()
        said = run(folder, *GIVEN, f"sweep.devices_per_trial={devices}")
        trials = study_in(folder).get_trials()
        values.append([trial.value for trial in trials])
        states.append([trial.state for trial in trials])
        used = {found.data.params["trainer.devices"] for found in tracked_runs(folder) if "seed" in found.data.params}
        assert {str(devices)} == used - {"auto"} or devices == 1, used
        assert "test/acc" in said
    assert states[0] == states[1]
    assert values[1] == pytest.approx(values[0], rel=1e-4)


def test_devices_of_the_trainer_are_refused_with_the_setting_that_gives_groups(tmp_path):
    said = run(tmp_path, *GIVEN, "trainer.devices=2", "trainer.strategy=ddp", code=2)
    assert "sweep.devices_per_trial=2 gives each training a group of its own" in said
