"""Every network in conf/model against its golden parameter count."""

import json
from pathlib import Path

import hydra
import pytest
import torch
from omegaconf import OmegaConf

ROOT = Path(__file__).parents[2]
CONFIGS = {path.stem: path for path in sorted((ROOT / "conf" / "model").glob("*.yaml"))}
GOLDEN = json.loads((ROOT / "tests" / "golden" / "parameter_counts.json").read_text())


def build(name: str, input_shape=(1, 28, 28), classes=10) -> torch.nn.Module:
    config = OmegaConf.load(CONFIGS[name])
    assert config.pop("name") == name
    return hydra.utils.instantiate(
        config, input_shape=input_shape, classes=classes, conv_dropout=0.5, dense_dropout=0.5
    )


def test_every_network_has_a_golden_count():
    assert set(CONFIGS) == set(GOLDEN)


@pytest.mark.parametrize("name", CONFIGS)
def test_parameter_count(name):
    network = build(name)
    assert sum(weights.numel() for weights in network.parameters()) == GOLDEN[name]


@pytest.mark.parametrize("name", CONFIGS)
def test_the_comment_tells_the_golden_count(name):
    assert f"{GOLDEN[name]:,} parameters" in CONFIGS[name].read_text().splitlines()[0]


@pytest.mark.parametrize("name", CONFIGS)
def test_takes_color_images_and_other_classes(name):
    assert build(name, (3, 32, 32), 100)(torch.zeros(2, 3, 32, 32)).shape == (2, 100)
