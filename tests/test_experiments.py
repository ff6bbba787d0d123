"""The published recipes, checked against what their authors wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnlab.models import parameter_count
from cnnlab.networks import build_network
from cnnlab.report.authors import TARGETS
from cnnlab.settings.commands import Training
from cnnlab.settings.read import read
from commands import ROOT, composed

FOLDER = ROOT / "conf" / "experiment"
KERAS_ADAM = {"name": "adam", "lr": 0.001, "betas": [0.9, 0.999], "eps": 1e-7, "weight_decay": 0.0}
KERAS_RMSPROP = {
    "name": "rmsprop",
    "lr": 0.001,
    "rho": 0.9,
    "momentum": 0.0,
    "eps": 1e-7,
    "weight_decay": 0.0,
}
LAST_TENTH = ("last", 0.1)

# dataset, scaling, validation, batch size, epochs, optimizer, (conv dropout, dense dropout, l2), monitor, patience,
# parameters
RECIPES = {
    "mnist_dnn": ("mnist", "raw", LAST_TENTH, 128, 50, KERAS_ADAM, (0, 0, 0), None, None, 51_450),
    "mnist_simple_cnn": ("mnist", "raw", LAST_TENTH, 128, 20, KERAS_ADAM, (0, 0, 0), None, None, 95_946),
    "mnist_deep_cnn": ("mnist", "raw", LAST_TENTH, 128, 30, KERAS_ADAM, (0.5, 0, 0.01), None, None, 175_210),
    "mnist_convnet": ("mnist", "unit", (None, 0), 64, 5, KERAS_RMSPROP, (0, 0, 0), None, None, 93_322),
    "fashion_cnn": (
        "fashion_mnist", "unit", ("random", 0.2), 32, 20, KERAS_ADAM, (0, 0.4, 0), "val/loss", 2, 333_526,
    ),
    "mnist_mlp": ("mnist", "unit", LAST_TENTH, 200, 30, KERAS_ADAM, (0, 0, 0), "val/loss", 10, 407_050),
    "mnist_cnn_dropout": (
        "mnist", "unit", LAST_TENTH, 200, 30, KERAS_ADAM, (0.25, 0.5, 0), "val/loss", 10, 1_199_882,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
class TestRecipe:
    def test_is_what_the_author_did(self, name):
        config = composed(f"experiment={name}")
        dataset, scaling, (method, fraction), batch_size, epochs, optimizer, rates, monitor, patience, _ = RECIPES[name]
        read(Training, config)
        assert (config["dataset"]["name"], config["dataset"]["scaling"]) == (dataset, scaling)
        assert config["dataset"]["validation"]["fraction"] == fraction
        assert method in (None, config["dataset"]["validation"]["method"])
        assert (config["batch_size"], config["trainer"]["max_epochs"]) == (batch_size, epochs)
        assert optimizer.items() <= config["optimizer"].items()
        assert config["scheduler"] == {"name": "none"}
        used = config["regularization"]
        assert (used["conv_dropout"], used["dense_dropout"], used["l2"]) == rates
        assert (used["l1"], used["label_smoothing"]) == (0, 0)
        assert config["callbacks"]["checkpoint"]["monitor"] == monitor
        assert (config["callbacks"]["early_stopping"] or {}).get("patience") == patience

    def test_has_the_authors_number_of_parameters(self, name):
        made = read(Training, composed(f"experiment={name}"))
        network = build_network(made.model, made.regularization, (1, 28, 28), 10)
        assert parameter_count(network) == RECIPES[name][-1]


def test_validation_seed_of_fashion_cnn():
    assert composed("experiment=fashion_cnn")["dataset"]["validation"]["seed"] == 42


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_experiment_opens_with_its_command(file: Path):
    lines = file.read_text().splitlines()
    assert lines[0] == "# @package _global_"
    comment = "\n".join(line for line in lines[: lines.index("defaults:")])
    assert f"python train.py experiment={file.stem}" in comment
    read(Training, composed(f"experiment={file.stem}"))


def test_every_recipe_has_its_authors_number():
    assert TARGETS.keys() >= RECIPES.keys()
    assert TARGETS["mnist_simple_cnn"].split == "val"
