"""A process may keep hundreds of models: none of them stays in its memory."""

from __future__ import annotations

import gc
import sys

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from cnnlab.data.scaling import Scaling
from cnnlab.logged_model import CODE_MODULE, About, log_model
from cnnlab.models import MLP
from cnnlab.portable import Portable, facts_about
from cnnlab.settings.commands import Tracking
from cnnlab.tracking.run import open_run
from commands import composed


def exports() -> int:
    """Return how many exports are still in memory, with their graphs and tensors: torch keeps the last two."""
    gc.collect()
    return sum(type(item) is ShapeEnv for item in gc.get_objects())


def test_a_kept_model_leaves_nothing_in_memory(tmp_path):
    values = composed(f"tracking.uri=sqlite:///{tmp_path}/mlflow.db", "tracking.system_metrics=false")["tracking"]
    options = dict(
        activation="relu", normalization="none", dense_initializer="he_normal", conv_dropout=0.0, dense_dropout=0.0
    )
    scaling = Scaling(1)
    model = Portable(scaling, MLP((1, 4, 4), 2, hidden_units=[3], **options))
    facts = facts_about(("cat", "dog"), (1, 4, 4), scaling)
    before = set(sys.modules)  # of models that other tests have loaded
    example, about = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), About("a", "", ("cats", "ab12"))
    kept = []
    with open_run(Tracking.model_validate(values), {}) as run:
        for _ in range(4):
            assert log_model(run, model, facts, example, about)
            kept.append(exports())
    assert [name for name in set(sys.modules) - before if name.startswith(CODE_MODULE)] == []
    assert FakeTensorMode.cache_info().size == 0
    assert kept[1] == kept[3]
