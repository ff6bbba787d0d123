"""The parts both networks are made of: convolution, pooling, activation, normalization, dense layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar, cast

import torch
from torch import nn
from torch.nn import functional

from cnnlab.models.dropout import Dropout
from cnnlab.models.initializers import INITIALIZERS

Kernel = TypeVar("Kernel", nn.Conv2d, nn.Linear)

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}
# These commute with taking a maximum; gelu and silu fall before they rise.
NON_DECREASING = frozenset({"relu", "leaky_relu", "elu", "tanh", "sigmoid"})
POOLINGS: dict[str, type[nn.Module] | None] = {"max": nn.MaxPool2d, "average": nn.AvgPool2d, "none": None}


Edges = tuple[int, int, int, int]  # left, right, top, bottom, in pixels; below zero what is cut off


class SameConv2d(nn.Conv2d):
    """A convolution that pads its two ends unequally, in training by other `edges` than otherwise.

    Those leave out pixels that the pooling after it throws away: the results of training are the same without them.
    """

    def __init__(
        self,
        channels: int,
        filters: int,
        kernel_size: int,
        stride: int,
        *,
        bias: bool,
        edges: Edges,
        training_edges: Edges,
    ) -> None:
        super().__init__(channels, filters, kernel_size, stride, bias=bias)
        self.edges = edges
        self.training_edges = training_edges

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the convolution [B, F, H', W'] of images [B, C, H, W]."""
        edges = self.training_edges if self.training else self.edges
        return super().forward(functional.pad(input, edges) if any(edges) else input)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, edges={self.edges}"


def same_edges(size: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """Return the zeros (before, after) that make the output ceil(size / stride) long; an odd one goes after (Keras)."""
    output = -(-size // stride)
    total = max((output - 1) * stride + kernel_size - size, 0)
    return total // 2, total - total // 2


def convolution(
    shape: tuple[int, int, int],
    filters: int,
    *,
    kernel_size: int,
    stride: int,
    padding: str,
    bias: bool,
    initializer: str,
    window: int = 1,
) -> nn.Conv2d:
    """Return the convolution for images of `shape` (C, H, W), initialized, its bias zero; `padding` same or valid.

    A pooling of windows of `window` x `window` pixels follows it, which sees no pixel outside a whole window.
    """
    channels, height, width = shape
    vertical, horizontal = (0, 0), (0, 0)
    if padding == "same":
        vertical, horizontal = (same_edges(size, kernel_size, stride) for size in (height, width))
    seen = [
        seen_edge(size, edges, kernel_size, stride, window) for size, edges in ((height, vertical), (width, horizontal))
    ]
    edges = (*horizontal, *vertical)
    training_edges = (horizontal[0], seen[1], vertical[0], seen[0])
    layer: nn.Conv2d
    if vertical[0] == vertical[1] and horizontal[0] == horizontal[1] and training_edges == edges:
        padded = (vertical[0], horizontal[0])
        layer = nn.Conv2d(channels, filters, kernel_size, stride, padding=padded, bias=bias)
    else:
        # Measured against an even padding cut afterwards and against a kernel widened with zeros: this is the fastest.
        sizes = channels, filters, kernel_size, stride
        layer = SameConv2d(*sizes, bias=bias, edges=edges, training_edges=training_edges)
    return initialized(layer, initializer)


def seen_edge(size: int, edges: tuple[int, int], kernel_size: int, stride: int, window: int) -> int:
    """Return the zeros after a side that whole windows of its convolution need; below zero the pixels they do not."""
    output = (size + sum(edges) - kernel_size) // stride + 1
    if output < window or output % window == 0:
        return edges[1]
    return (output // window * window - 1) * stride + kernel_size - size - edges[0]


def dense(inputs: int, units: int, *, initializer: str, bias: bool = True) -> nn.Linear:
    """Return a dense layer, initialized, its bias zero."""
    return initialized(nn.Linear(inputs, units, bias=bias), initializer)


def hidden_layers(
    inputs: int, hidden_units: Sequence[int], *, activation: str, normalization: str, initializer: str, dropout: float
) -> Iterator[tuple[str, nn.Module]]:
    """Yield the named layers of a stack of dense layers: dense -> norm -> activation -> dropout, for each width."""
    for number, units in enumerate(hidden_units, start=1):
        # A normalization subtracts the mean, and with it any bias added before.
        yield f"dense{number}", dense(inputs, units, initializer=initializer, bias=normalization == "none")
        if normalization == "batch":
            yield f"dense_norm{number}", nn.BatchNorm1d(units)
        yield f"dense_activation{number}", ACTIVATIONS[activation]()
        if dropout > 0:
            yield f"dense_dropout{number}", Dropout(dropout)
        inputs = units


def kernels(module: nn.Module) -> list[nn.Parameter]:
    """Return the weights of every convolution and dense layer (Keras' kernels): no bias, no normalization."""
    layers = (layer for layer in module.modules() if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)))
    return [cast(nn.Parameter, layer.weight) for layer in layers]


def initialized(layer: Kernel, initializer: str) -> Kernel:
    """Return `layer` with its kernel drawn by the named initializer and its bias, if any, set to zero."""
    INITIALIZERS[initializer](layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
