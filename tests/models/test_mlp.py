"""The multi-layer perceptron."""

import pytest
import torch
from torch import nn

from cnnlab.models import MLP

OPTIONS = {
    "hidden_units": [6, 5],
    "activation": "relu",
    "normalization": "none",
    "dense_initializer": "glorot_uniform",
    "conv_dropout": 0.0,
    "dense_dropout": 0.0,
}


def build(input_shape=(1, 28, 28), classes=10, **changes) -> MLP:
    return MLP(input_shape, classes, **{**OPTIONS, **changes})


@pytest.mark.parametrize("input_shape", [(3, 32, 32), (1, 28, 28)])
@pytest.mark.parametrize("classes", [3, 100])
@pytest.mark.parametrize("hidden_units", [[], [6, 5]])
@pytest.mark.parametrize("normalization", ["none", "batch"])
def test_any_shape_and_number_of_classes(input_shape, classes, hidden_units, normalization):
    network = build(input_shape, classes, hidden_units=hidden_units, normalization=normalization)
    assert network(torch.zeros(2, *input_shape)).shape == (2, classes)


def test_computes_what_its_weights_say():
    network = build((1, 1, 2), 1, hidden_units=[2])
    with torch.no_grad():
        network.layers.dense1.weight.copy_(torch.tensor([[1.0, 2.0], [-1.0, 0.0]]))
        network.layers.dense1.bias.copy_(torch.tensor([0.5, 1.0]))
        network.layers.logits.weight.copy_(torch.tensor([[2.0, 7.0]]))
    # relu(3 + 8 + .5) = 11.5 and relu(-3 + 1) = 0.
    assert network(torch.tensor([[[[3.0, 4.0]]]])).item() == 23.0


def test_dense_dropout_follows_every_hidden_layer_and_conv_dropout_none():
    network = build(conv_dropout=0.9, dense_dropout=0.5)
    layers = dict(network.layers.named_children())
    assert list(layers) == [
        *("flatten", "dense1", "dense_activation1", "dense_dropout1"),
        *("dense2", "dense_activation2", "dense_dropout2", "logits"),
    ]
    assert {layer.p for layer in layers.values() if isinstance(layer, nn.Dropout)} == {0.5}


def test_exports_with_any_batch_size():
    network = build(dense_dropout=0.5).eval()
    example = (torch.rand(2, 1, 28, 28),)
    program = torch.export.export(network, example, dynamic_shapes=({0: torch.export.Dim("batch")},))
    images = torch.rand(5, 1, 28, 28)
    torch.testing.assert_close(program.module()(images), network(images))
