"""The convolutional network: a stack of convolutions, then a stack of dense layers."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from cnnlab.models.compiled import through_kernels
from cnnlab.models.dropout import Dropout
from cnnlab.models.layers import (
    ACTIVATIONS,
    NON_DECREASING,
    POOLINGS,
    convolution,
    dense,
    hidden_layers,
    same_edges,
)

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Block:
    """One convolution and what follows it; `number` counts from 1, a `pool_size` below 2 means no pooling."""

    number: int
    filters: int
    kernel_size: int
    stride: int
    padding: str
    pooling: str
    pool_size: int

    def convolved(self, shape: Shape) -> Shape:
        """Return the shape (C, H, W) after the convolution; a side may come out below 1."""
        sides = []
        for size in shape[1:]:
            edges = sum(same_edges(size, self.kernel_size, self.stride)) if self.padding == "same" else 0
            sides.append((size + edges - self.kernel_size) // self.stride + 1)
        return self.filters, sides[0], sides[1]

    def pooled(self, shape: Shape) -> Shape:
        """Return the shape (C, H, W) after the pooling, if there is one; a side may come out as 0."""
        if not self.pools:
            return shape
        return shape[0], shape[1] // self.pool_size, shape[2] // self.pool_size

    @property
    def pools(self) -> bool:
        return self.pooling != "none" and self.pool_size > 1

    @property
    def downsamples(self) -> bool:
        return self.pools or self.stride > 1


class ConvNet(nn.Module):
    """Convolution blocks, one for each of `filters`, then hidden dense layers, then a dense layer of logits.

    A block is conv -> norm -> activation -> pool -> dropout, with max pooling moved to just after the convolution for
    activations that do not decrease. Without normalization that gives the same result with less work. With it the
    maxima are normalized instead of all values (docs/mnist_challenge.md says what that is worth).

    `input_shape` is (channels, height, width); `kernel_size`, `stride` and `pool_size` are one number for all blocks or
    a list with one for each; a `pool_size` of None or 0 leaves that block without pooling. `conv_dropout` follows the
    blocks that make the image smaller, `dense_dropout` the hidden dense layers. Raises ValueError with the first layer
    that its image is too small for, and for lists of another length than `filters`.
    """

    def __init__(
        self,
        input_shape: Shape,
        classes: int,
        *,
        filters: Sequence[int],
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int],
        padding: str,
        pooling: str,
        pool_size: int | Sequence[int | None] | None,
        hidden_units: Sequence[int],
        activation: str,
        normalization: str,
        conv_initializer: str,
        dense_initializer: str,
        conv_dropout: float,
        dense_dropout: float,
    ) -> None:
        super().__init__()
        sizes = [per_layer(value, len(filters)) for value in (kernel_size, stride, pool_size)]
        blocks = [
            Block(number, depth, kernel or 0, step or 0, padding, pooling, pool or 0)
            for number, (depth, kernel, step, pool) in enumerate(zip(filters, *sizes, strict=True), start=1)
        ]
        shapes = block_shapes(input_shape, blocks)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for block, shape in zip(blocks, shapes, strict=False):
            layers.update(
                block_layers(
                    block,
                    shape,
                    activation=activation,
                    normalization=normalization,
                    initializer=conv_initializer,
                    dropout=conv_dropout,
                )
            )
        features = math.prod(shapes[-1])
        layers["flatten"] = nn.Flatten()
        layers.update(
            hidden_layers(
                features,
                hidden_units,
                activation=activation,
                normalization=normalization,
                initializer=dense_initializer,
                dropout=dense_dropout,
            )
        )
        layers["logits"] = dense([features, *hidden_units][-1], classes, initializer=dense_initializer)
        self.layers = nn.Sequential(layers)
        self.compiled = False  # whether training goes through the compiled kernels; they have to be there

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits [B, classes] of float images [B, C, H, W]."""
        return through_kernels(self.layers, images) if self.compiled and self.training else self.layers(images)


def block_shapes(input_shape: Shape, blocks: Sequence[Block]) -> list[Shape]:
    """Return the shape (C, H, W) each block receives, and last the one the blocks end with.

    Raises ValueError with the first layer that has fewer pixels than it needs.
    """
    shapes = [input_shape]
    for index, block in enumerate(blocks):
        convolved = block.convolved(shapes[-1])
        if min(convolved[1:]) < 1:
            layer = f"conv{block.number} ({times(block.kernel_size, block.kernel_size)} {block.padding})"
            raise too_deep(layer, shapes[-1], input_shape, f"{index} of the {len(blocks)} convolutions")
        pooled = block.pooled(convolved)
        if min(pooled[1:]) < 1:
            layer = f"pool{block.number} ({block.pooling} {times(block.pool_size, block.pool_size)})"
            done, wanted = (sum(other.pools for other in part) for part in (blocks[:index], blocks))
            raise too_deep(layer, convolved, input_shape, f"{done} of the {wanted} poolings")
        shapes.append(pooled)
    return shapes


def block_layers(
    block: Block, shape: Shape, *, activation: str, normalization: str, initializer: str, dropout: float
) -> Iterator[tuple[str, nn.Module]]:
    """Yield the named layers of one block that receives images of `shape` (C, H, W)."""
    pooling = POOLINGS[block.pooling] if block.pools else None
    # The maximum of a non-decreasing function is the function of the maximum: pool first, do the rest on a quarter.
    first = block.pooling == "max" and activation in NON_DECREASING
    # A normalization subtracts the mean, and with it any bias added before. It is taken over all pixels, where pooling
    # comes after it.
    normalized = normalization == "batch"
    yield (
        f"conv{block.number}",
        convolution(
            shape,
            block.filters,
            kernel_size=block.kernel_size,
            stride=block.stride,
            padding=block.padding,
            bias=not normalized,
            initializer=initializer,
            window=block.pool_size if pooling and (first or not normalized) else 1,
        ),
    )
    tail: list[tuple[str, nn.Module]] = [(f"activation{block.number}", ACTIVATIONS[activation]())]
    if normalized:
        tail.insert(0, (f"norm{block.number}", nn.BatchNorm2d(block.filters)))
    if pooling is not None:
        tail.insert(0 if first else len(tail), (f"pool{block.number}", pooling(block.pool_size)))
    yield from tail
    if dropout > 0 and block.downsamples:
        yield f"dropout{block.number}", Dropout(dropout)


def per_layer(value: int | Sequence[int | None] | None, layers: int) -> Sequence[int | None]:
    """Return one value a layer, from one for all or a list."""
    return [value] * layers if value is None or isinstance(value, int) else value


def too_deep(layer: str, shape: Shape, input_shape: Shape, allowed: str) -> ValueError:
    """Return the error for a `layer` that receives a `shape` smaller than its window."""
    return ValueError(f"{layer} cannot take {times(*shape)}; the {times(*input_shape)} images allow {allowed}")


def times(*sizes: int) -> str:
    return "x".join(map(str, sizes))
