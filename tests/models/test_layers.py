"""Padding as Keras does it, and layers with known numbers."""

import pytest
import torch
from torch import nn

from cnnlab.models.layers import SameConv2d, convolution, same_edges


def conv(shape, **changes):
    options = {"kernel_size": 2, "stride": 1, "padding": "same", "bias": True, "initializer": "glorot_normal"}
    return convolution(shape, 1, **{**options, **changes})


@pytest.mark.parametrize(
    ("size", "kernel_size", "stride", "edges"),
    [
        (28, 2, 1, (0, 1)),  # out 28: 27 + 2 - 28 = 1
        (28, 3, 1, (1, 1)),
        (28, 4, 1, (1, 2)),
        (28, 3, 2, (0, 1)),  # out 14: 26 + 3 - 28 = 1
        (7, 3, 2, (1, 1)),  # out 4: 6 + 3 - 7 = 2
        (7, 2, 2, (0, 1)),  # out 4: 6 + 2 - 7 = 1
        (7, 5, 3, (2, 2)),  # out 3: 6 + 5 - 7 = 4
        (28, 1, 2, (0, 0)),  # the stride skips pixels: nothing to pad
    ],
)
def test_same_padding_is_what_keras_pads(size, kernel_size, stride, edges):
    assert same_edges(size, kernel_size, stride) == edges


def test_an_even_kernel_pads_right_and_below():
    layer = conv((1, 2, 3))
    nn.init.ones_(layer.weight)
    image = torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]])
    # Each output is the sum of a pixel, its right, its lower and its lower right neighbour.
    assert layer(image).tolist() == [[[[12.0, 16.0, 9.0], [9.0, 11.0, 6.0]]]]


def test_same_padding_with_a_stride_and_uneven_sides():
    layer = conv((1, 3, 4), kernel_size=3, stride=2)
    nn.init.ones_(layer.weight)
    image = torch.arange(1.0, 13.0).reshape(1, 1, 3, 4)
    # Rows pad (1, 1) and columns (0, 1): windows begin at rows -1, 1 and at columns 0, 2.
    assert layer(image).tolist() == [[[[24.0, 22.0], [48.0, 38.0]]]]


def test_even_padding_needs_no_extra_step():
    layer = conv((1, 28, 28), kernel_size=3)
    assert type(layer) is nn.Conv2d and layer.padding == (1, 1)
    assert isinstance(conv((1, 28, 28)), SameConv2d)


def test_valid_padding_pads_nothing():
    assert conv((1, 28, 28), padding="valid")(torch.zeros(1, 1, 28, 28)).shape == (1, 1, 27, 27)


def test_biases_begin_at_zero():
    assert conv((1, 8, 8)).bias.tolist() == [0.0]
