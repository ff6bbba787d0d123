"""The convolutional network: shapes, order of layers, refusals."""

import pytest
import torch
from torch import nn

from cnnlab.models import ConvNet, kernels

OPTIONS = {
    "filters": [4, 8],
    "kernel_size": 2,
    "stride": 1,
    "padding": "same",
    "pooling": "max",
    "pool_size": 2,
    "hidden_units": [],
    "activation": "relu",
    "normalization": "none",
    "conv_initializer": "glorot_normal",
    "dense_initializer": "glorot_uniform",
    "conv_dropout": 0.0,
    "dense_dropout": 0.0,
}


def build(input_shape=(1, 28, 28), classes=10, **changes) -> ConvNet:
    return ConvNet(input_shape, classes, **{**OPTIONS, **changes})


def names(network: ConvNet) -> list[str]:
    return [name for name, _ in network.layers.named_children()]


@pytest.mark.parametrize("input_shape", [(3, 32, 32), (1, 28, 28), (3, 17, 22)])
@pytest.mark.parametrize("classes", [3, 100])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("stride", [1, 2, [1, 3]])
def test_any_shape_and_number_of_classes(input_shape, classes, padding, stride):
    network = build(input_shape, classes, padding=padding, stride=stride, kernel_size=[2, 1], hidden_units=[5])
    assert network(torch.zeros(2, *input_shape)).shape == (2, classes)


def test_pooling_comes_before_a_non_decreasing_activation_only():
    assert names(build(filters=[4])) == ["conv1", "pool1", "activation1", "flatten", "logits"]
    assert names(build(filters=[4], activation="gelu"))[:3] == ["conv1", "activation1", "pool1"]
    assert names(build(filters=[4], pooling="average"))[:3] == ["conv1", "activation1", "pool1"]


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu", "tanh", "sigmoid"])
def test_pooling_first_gives_the_same_outputs_and_gradients(activation):
    torch.manual_seed(0)
    network = build((2, 7, 7), filters=[3], activation=activation).double()
    images = torch.randn(4, 2, 7, 7, dtype=torch.double)
    ours = network(images)
    gradients = torch.autograd.grad(ours.square().sum(), list(network.parameters()))

    conv, pool, active, flatten, logits = network.layers
    textbook = logits(flatten(pool(active(conv(images)))))
    expected = torch.autograd.grad(textbook.square().sum(), list(network.parameters()))
    torch.testing.assert_close(ours, textbook, rtol=0, atol=0)
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-12, atol=1e-12)


def test_average_pooling_averages_the_activated_pixels():
    network = build((1, 2, 2), 1, filters=[1], kernel_size=1, pooling="average")
    with torch.no_grad():
        network.layers.conv1.weight.fill_(1)
        network.layers.logits.weight.fill_(1)
    # relu gives 3, 0, 5, 0: the mean is 2, where averaging before relu would give (3 - 9 + 5 - 7) / 4 -> 0.
    assert network(torch.tensor([[[[3.0, -9.0], [5.0, -7.0]]]])).item() == 2.0


def test_a_null_or_zero_pool_size_leaves_a_block_without_pooling():
    network = build(filters=[2, 2, 2], pool_size=[2, None, 0])
    assert [name for name in names(network) if name.startswith("pool")] == ["pool1"]
    assert network.layers.logits.in_features == 2 * 14 * 14


def test_no_pooling():
    assert not [layer for layer in build(pooling="none").layers if isinstance(layer, nn.MaxPool2d)]


def test_dropout_follows_downsampling_and_hidden_layers():
    network = build(pool_size=[None, 2], hidden_units=[6, 5], conv_dropout=0.25, dense_dropout=0.5)
    rates = {name: layer.p for name, layer in network.layers.named_children() if isinstance(layer, nn.Dropout)}
    assert rates == {"dropout2": 0.25, "dense_dropout1": 0.5, "dense_dropout2": 0.5}
    strided = build(pooling="none", stride=[2, 1], conv_dropout=0.25)
    assert [name for name in names(strided) if "dropout" in name] == ["dropout1"]
    assert not [name for name in names(build(hidden_units=[6])) if "dropout" in name]


def test_batch_normalization_replaces_the_bias_of_the_layer_before():
    network = build(normalization="batch", hidden_units=[6])
    assert names(network)[:4] == ["conv1", "pool1", "norm1", "activation1"]
    biased = [name for name, layer in network.layers.named_children() if getattr(layer, "bias", None) is not None]
    assert biased == ["norm1", "norm2", "dense_norm1", "logits"]


def test_kernels_are_the_weights_of_convolutions_and_dense_layers():
    network = build(normalization="batch", hidden_units=[6])
    layers = network.layers
    expected = [layers.conv1.weight, layers.conv2.weight, layers.dense1.weight, layers.logits.weight]
    found = kernels(network)
    assert len(found) == 4 and all(ours is theirs for ours, theirs in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("input_shape", "changes", "line"),
    [
        (
            (1, 8, 8),
            {"filters": [32, 64, 128, 256]},
            "pool4 (max 2x2) cannot take 256x1x1; the 1x8x8 images allow 3 of the 4 poolings",
        ),
        (
            (3, 5, 9),
            {"kernel_size": 3, "padding": "valid"},
            "conv2 (3x3 valid) cannot take 4x1x3; the 3x5x9 images allow 1 of the 2 convolutions",
        ),
    ],
)
def test_a_network_too_deep_for_its_image_is_refused(input_shape, changes, line):
    with pytest.raises(ValueError, match="cannot take") as raised:
        build(input_shape, **changes)
    assert str(raised.value) == line


def test_a_list_of_another_length_than_the_filters_is_refused():
    with pytest.raises(ValueError, match="zip"):
        build(kernel_size=[3])


@pytest.mark.parametrize("channels_last", [False, True])
def test_exports_with_any_batch_size(channels_last):
    network = build(conv_dropout=0.5, hidden_units=[6], dense_dropout=0.5).eval()
    images = torch.rand(2, 1, 28, 28)
    if channels_last:
        network, images = network.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    program = torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    for batch in (1, 5):
        images = torch.rand(batch, 1, 28, 28)
        torch.testing.assert_close(program.module()(images), network(images))
