"""A worker that trains hundreds of trials is no larger at the end than after the first ones."""

from __future__ import annotations

import gc
from collections import Counter

import pytest
import pytorch_lightning as pl
import torch
from optuna.trial import TrialState
from torch import nn

from cnnlab.data.images import ImageData
from sweep_bench import Bench

LARGE = (torch.Tensor, nn.Module, pl.Trainer, pl.Callback, torch.optim.Optimizer, ImageData)


def alive() -> Counter[str]:
    """Return how many objects that hold memory cannot be collected, by their type."""
    gc.collect()
    return Counter(type(item).__name__ for item in gc.get_objects() if issubclass(type(item), LARGE))


@pytest.mark.slow
def test_trials_leave_nothing_in_memory(tmp_path):
    units = [8, 9, 10, 11, 12, 13, 14]
    bench = Bench(tmp_path, "trainer.max_epochs=1", search={"model.hidden_units.0": f"choice{tuple(units)}"})
    bench.run(*({"model.hidden_units.0": number} for number in units[:3]))  # what is made once is there
    before = alive()
    assert before["Tensor"] > 3
    trials = bench.run(*({"model.hidden_units.0": number} for number in units[3:]))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert alive() == before
