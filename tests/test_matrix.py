"""Any dataset composes with any model and any regularization, and takes one training step."""

from __future__ import annotations

from functools import cache
from itertools import product
from pathlib import Path

import pytest
import torch

from cnnlab.plan import make_plan
from commands import ROOT, settings
from commands import loaded as load
from data_makers import make_cifar10, make_mnist_like, patch

DATASETS = ("digits", "mnist", "fashion_mnist", "cifar10")
# torchvision's are too large to be trained again and again: tests/models/test_published.py.
MODELS = sorted({file.stem for file in (ROOT / "conf" / "model").glob("*.yaml")} - {"torchvision"})
REGULARIZATIONS = ("none", "dropout", "l2", "dropout_l2")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Return a loader over small archives in the official formats, each read once."""
    root = tmp_path_factory.mktemp("archives")
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in ("mnist", "fashion_mnist"):
            patch(monkeypatch, name, make_mnist_like(root, name, train=120, test=40))
        patch(monkeypatch, "cifar10", make_cifar10(root, train=100, test=40))
        read = cache(lambda name: load(name, root=str(root)))
        yield lambda section: read(section.name)


def test_the_seven_published_networks_are_there():
    assert {"dnn", "mlp", "simple_cnn", "deep_cnn", "convnet", "fashion_cnn", "cnn_dropout"} <= set(MODELS)


@pytest.mark.parametrize("model", MODELS)
def test_takes_a_training_step(model, loaded, tmp_path: Path):
    for dataset, regularization in product(DATASETS, REGULARIZATIONS):
        made = settings(
            f"model={model}",
            f"dataset={dataset}",
            f"regularization={regularization}",
            "batch_size=8",
            "callbacks=last_checkpoint",
            "+trainer.max_steps=1",
            "+trainer.limit_val_batches=1",
            f"tracking.uri=sqlite:///{tmp_path}/mlflow.db",
        )
        plan = make_plan(made, tmp_path / dataset / regularization, loaded)
        before = [weights.detach().clone() for weights in plan.classifier.network.parameters()]
        plan.trainer.fit(plan.classifier, plan.data_module)
        after = list(plan.classifier.network.parameters())
        assert plan.trainer.global_step == 1
        assert all(torch.isfinite(weights).all() for weights in after)
        assert not any(torch.equal(old, new) for old, new in zip(before, after, strict=True)), (dataset, regularization)
        # A penalty is part of the objective exactly where the regularization has one.
        assert (bool(plan.classifier.penalty() > 0)) == ("l2" in regularization)
