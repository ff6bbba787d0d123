"""Every network in conf/model against its golden parameter count."""

import json

import pytest
import torch

from cnnlab.models import parameter_count
from cnnlab.networks import build_network
from commands import ROOT, settings

CONFIGS = {path.stem: path for path in sorted((ROOT / "conf" / "model").glob("*.yaml"))}
GOLDEN = json.loads((ROOT / "tests" / "golden" / "parameter_counts.json").read_text())


def build(name: str, input_shape=(1, 28, 28), classes=10) -> torch.nn.Module:
    made = settings(f"model={name}", "regularization.conv_dropout=0.5", "regularization.dense_dropout=0.5")
    assert made.model.name == {"torchvision": "resnet18"}.get(name, name)
    return build_network(made.model, made.regularization, input_shape, classes)


def test_every_network_has_a_golden_count():
    assert set(CONFIGS) == set(GOLDEN)


@pytest.mark.parametrize("name", CONFIGS)
def test_parameter_count(name):
    assert parameter_count(build(name)) == GOLDEN[name]


@pytest.mark.parametrize("name", CONFIGS)
def test_the_comment_tells_the_golden_count(name):
    assert f"{GOLDEN[name]:,} parameters" in CONFIGS[name].read_text().splitlines()[0]


@pytest.mark.parametrize("name", CONFIGS)
def test_takes_color_images_and_other_classes(name):
    assert build(name, (3, 32, 32), 100)(torch.zeros(2, 3, 32, 32)).shape == (2, 100)
