"""Several networks of one shape as one network, whose weights are theirs, stacked."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from cnnlab.fused.layers import (
    Stacked,
    StackedBatchNorm,
    StackedConv2d,
    StackedDropout,
    StackedFlatten,
    StackedLinear,
)
from cnnlab.models import MLP, ConvNet, ResNet
from cnnlab.models.dropout import Dropout
from cnnlab.models.layers import ACTIVATIONS, SameConv2d
from cnnlab.models.resnet import ResidualBlock

STACKED: dict[type[nn.Module], type[Stacked]] = {
    nn.Linear: StackedLinear,
    nn.Conv2d: StackedConv2d,
    SameConv2d: StackedConv2d,
    nn.BatchNorm1d: StackedBatchNorm,
    nn.BatchNorm2d: StackedBatchNorm,
}
# These hold no weights and look at each value, or each channel, by itself.
ALIKE = (*ACTIVATIONS.values(), nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Identity)
# These compute nothing but what their layers do, and sums.
WHOLES = (nn.Sequential, ConvNet, MLP, ResNet, ResidualBlock)


class Unstackable(ValueError):
    """A network that cannot be stacked; the message names the layer."""


class Stack(nn.Module):
    """K networks of one shape; parameters and buffers have the names they have in each, and the shape [K, ...].

    `generators` are those of the dropout of each. Raises Unstackable for a network with a layer that is not known here.
    """

    def __init__(self, networks: Sequence[nn.Module], generators: Sequence[torch.Generator] = ()):
        super().__init__()
        self.generators = list(generators)
        self.slots = len(networks)
        self.convolves = any(isinstance(layer, nn.Conv2d) for layer in networks[0].modules())
        self.network = self._stacked(networks)

    def _stacked(self, layers: Sequence[nn.Module]) -> nn.Module:
        first, kind = layers[0], type(layers[0])
        if kind in STACKED:
            return STACKED[kind](layers)
        if kind is Dropout:
            return StackedDropout([cast(Dropout, layer).p for layer in layers], self.generators)
        if kind is nn.Flatten:
            return StackedFlatten(self.slots, shared=not self.convolves)
        if kind in ALIKE:
            return first
        if kind not in WHOLES:
            raise Unstackable(kind.__name__)
        whole = copy.copy(first)
        if isinstance(whole, ConvNet):
            whole.compiled = False  # the kernels know no stacks
        whole._modules = {
            name: None if part is None else self._stacked([cast(nn.Module, layer._modules[name]) for layer in layers])
            for name, part in first._modules.items()
        }
        return whole

    def forward(self, images: Tensor, shared: bool = True) -> Tensor:
        """Return logits [K, B, classes] of float images [B, C, H, W] that are `shared`, else [B, K * C, H, W]."""
        for layer in self.network.modules():
            if isinstance(layer, StackedFlatten):
                layer.shared = shared and not self.convolves
        return self.network(images)

    def kernels(self) -> list[Tensor]:
        """Return the kernels [K, ...] of all convolutions and dense layers, which penalties are on."""
        return [layer.weight for layer in self.network.modules() if isinstance(layer, StackedConv2d | StackedLinear)]

    def keep(self, places: Sequence[int]) -> None:
        """Keep the networks at these places, in this order, and forget the others; the parameters are new objects."""
        index = torch.tensor(places, device=next(self.parameters()).device)
        self.slots = len(places)
        self.generators[:] = [self.generators[place] for place in places] if self.generators else []
        for layer in self.network.modules():
            if isinstance(layer, StackedFlatten):
                layer.slots = len(places)
            elif isinstance(layer, StackedDropout):
                layer.keep(places)
            elif isinstance(layer, Stacked):
                layer.keep(index)

    def state(self, place: int) -> dict[str, Tensor]:
        """Return the state dict of the network at a place, its own copy."""
        return {name: values[place].clone() for name, values in self.network.state_dict().items()}
