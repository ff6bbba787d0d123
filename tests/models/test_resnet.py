"""The residual network against the equations of its paper."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cnnlab.errors import UsageError
from cnnlab.models import ResNet, parameter_count
from cnnlab.models.resnet import ResidualBlock
from commands import settings

OPTIONS = {
    "depth": 20,
    "width": 16,
    "activation": "relu",
    "conv_initializer": "he_normal",
    "dense_initializer": "glorot_uniform",
    "conv_dropout": 0.0,
    "dense_dropout": 0.0,
}


def build(shape=(1, 28, 28), classes=10, **changes) -> ResNet:
    return ResNet(shape, classes, **{**OPTIONS, **changes})


def test_depth_counts_the_convolutions_and_the_logits():
    for depth in (8, 20, 32):
        layers = [layer for layer in build(depth=depth).modules() if isinstance(layer, torch.nn.Conv2d)]
        on_the_way = [layer for layer in layers if layer.kernel_size == (3, 3)]
        assert len(on_the_way) + 1 == depth and len(layers) - len(on_the_way) == 2, "two shortcuts change the shape"


def test_stages_double_the_filters_and_halve_the_image_rounded_up():
    network = build((3, 17, 9), width=4, depth=8).eval()
    images, shapes = torch.zeros(2, 3, 17, 9), []
    for name, layer in network.layers.named_children():
        images = layer(images)
        shapes += [tuple(images.shape[1:])] if name.startswith("block") else []
    assert shapes == [(4, 17, 9), (8, 9, 5), (16, 5, 3)] and images.shape == (2, 10)


def test_a_block_adds_to_what_came_in_and_leaves_the_sum_untouched():
    block = ResidualBlock((4, 6, 6), 4, 1, activation="relu", initializer="he_normal", dropout=0.0).eval()
    images = torch.randn(2, 4, 6, 6)
    inner = F.conv2d(F.relu(images / (1 + 1e-5) ** 0.5), block.conv1.weight, padding=1)
    inner = F.conv2d(F.relu(inner / (1 + 1e-5) ** 0.5), block.conv2.weight, padding=1)
    torch.testing.assert_close(block(images), images + inner)
    with torch.no_grad():
        block.conv2.weight.zero_()
    assert torch.equal(block(images), images), "the identity mapping of the title: nothing is done to the sum"


def test_twice_the_width_has_nearly_four_times_the_parameters():
    narrow, wide = (parameter_count(build(width=width)) for width in (16, 32))
    assert 3.9 < wide / narrow < 4


def test_dropout_lies_in_every_block_and_before_the_logits():
    names = [name for name, layer in build(conv_dropout=0.2, dense_dropout=0.1).named_modules() if "dropout" in name]
    assert len(names) == 9 + 1 and names[-1] == "layers.dropout"


@pytest.mark.parametrize("size", [(1, 1, 1), (2, 3, 8), (3, 64, 48)])
def test_takes_any_image_size_and_number_of_channels(size):
    assert build(size, 3, depth=8, width=4).eval()(torch.zeros(1, *size)).shape == (1, 3)


@pytest.mark.parametrize(("depth", "near"), [(21, 20), (18, 20), (9, 8)])
def test_another_depth_is_one_line_with_the_nearest(depth, near):
    with pytest.raises(UsageError) as raised:
        settings("model=resnet", f"model.depth={depth}")
    assert raised.value.problems == [
        f"model.depth={depth} is not allowed; model.depth takes 6n + 2: 8, 14, 20, 26, ...; did you mean {near}?"
    ]
