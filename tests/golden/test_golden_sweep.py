"""A sweep of six trials with a fixed sampler seed, as it was once recorded (see test_golden_metrics.py)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cnnlab.tracking.provenance import processor
from sweep_commands import run, study_in

GOLDEN = json.loads(Path(__file__).with_name("metrics.json").read_text())
SAME_PROCESSOR = processor().startswith(f"{GOLDEN['processor']},")
CHOSEN_AT_RANDOM = 3  # the first trials; those that follow depend on their values


@pytest.mark.slow
def test_parameters_states_and_values_of_every_trial(tmp_path):
    short = ["trainer.max_epochs=2", "trainer.precision=32-true", "sweep.n_trials=6", "sampler.n_startup_trials=3"]
    run(tmp_path, "sweep.name=golden", *short)
    found = [
        {
            "state": trial.state.name,
            "params": trial.params,
            "values": trial.values,
            "intermediate": {str(epoch): value for epoch, value in trial.intermediate_values.items()},
        }
        for trial in study_in(tmp_path, "golden").get_trials()
    ]
    if SAME_PROCESSOR:
        assert found == GOLDEN["sweep"]
        return
    for trial, recorded in zip(found[:CHOSEN_AT_RANDOM], GOLDEN["sweep"], strict=False):
        assert trial["params"] == recorded["params"]
        assert trial["intermediate"]["1"] == pytest.approx(recorded["intermediate"]["1"], abs=0.05)
