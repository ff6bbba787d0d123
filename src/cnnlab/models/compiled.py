"""A stack of layers, those blocks through the compiled kernels that they know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnnlab.kernels.blocks import LANES, MOST_TAPS, NUMBERS, Edges, FirstBlock, Pooled


@dataclass(frozen=True)
class KnownBlock:
    """A convolution, max pooling over 2x2 and, or not, ReLU; `first`: its images are the network's own."""

    convolution: nn.Conv2d
    rest: tuple[nn.Module, ...]
    first: bool

    @property
    def relu(self) -> bool:
        return len(self.rest) > 1

    def __call__(self, images: Tensor) -> Tensor:
        """Return [B, F, H', W'] of [B, C, H, W]."""
        layer = self.convolution
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else images.dtype
        plain = images.dtype == layer.weight.dtype == torch.float32 and not images.requires_grad
        if self.first and plain and dtype in NUMBERS:
            return FirstBlock.apply(images, layer.weight, layer.bias, edges(layer), self.relu, dtype)
        convolved = layer(images)
        if convolved.dtype in NUMBERS:
            return Pooled.apply(convolved, self.relu)
        for module in self.rest:
            convolved = module(convolved)
        return convolved


def through_kernels(layers: nn.Sequential, images: Tensor) -> Tensor:
    """Return what `layers` make of images [B, C, H, W] on a CPU, but for the last digits."""
    for part in parts(layers) if images.device.type == "cpu" else layers:
        images = part(images)
    return images


def parts(layers: nn.Sequential) -> Iterator[nn.Module | KnownBlock]:
    """Yield the blocks that the kernels know, each as one, and all other layers."""
    rest = list(layers)
    first = True
    while rest:
        size = known(rest)
        if size:
            layer = rest[0]
            assert isinstance(layer, nn.Conv2d)
            yield KnownBlock(layer, tuple(rest[1:size]), first and known_first(layer))
        else:
            yield rest[0]
        del rest[: max(size, 1)]
        first = False


def known(layers: list[nn.Module]) -> int:
    """Return how many of the layers, from the first, are one block that the kernels know; 0 where none is."""
    if len(layers) < 2 or not isinstance(layers[0], nn.Conv2d) or layers[0].out_channels % LANES:
        return 0
    pool = layers[1]
    if not isinstance(pool, nn.MaxPool2d) or pool.kernel_size != 2:
        return 0
    return 3 if len(layers) > 2 and isinstance(layers[2], nn.ReLU) else 2


def known_first(layer: nn.Conv2d) -> bool:
    """Return whether a network's first convolution is one that the kernels compute."""
    height, width = layer.kernel_size
    return layer.stride == (1, 1) and height == width and layer.in_channels * height * width <= MOST_TAPS


def edges(layer: nn.Conv2d) -> Edges:
    """Return the zeros around a convolution's images: left, right, top, bottom."""
    own: Edges | None = getattr(layer, "edges", None)
    vertical, horizontal = (int(side) for side in layer.padding)
    return own or (horizontal, horizontal, vertical, vertical)
