"""Layers that stand for the same layer of several networks at once, with the weights of each.

Between them dense values are [K, B, F] and images [B, K * C, H, W], for K networks: an image's channels are those of
the first network, then those of the second and so on. What all networks share, their input, is [B, F] and [B, C, H, W].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from cnnlab.models.layers import Edges, SameConv2d


class Stacked(nn.Module):
    """A layer of K networks: each parameter and each buffer of theirs is one here, with their K values [K, ...]."""

    def __init__(self, layers: Sequence[nn.Module]):
        super().__init__()
        for name, first in layers[0].named_parameters(recurse=False):
            values = torch.stack([cast(Tensor, getattr(layer, name)).detach() for layer in layers])
            self.register_parameter(name, nn.Parameter(values.contiguous(), requires_grad=first.requires_grad))
        for name, _ in layers[0].named_buffers(recurse=False):
            self.register_buffer(name, torch.stack([cast(Tensor, getattr(layer, name)) for layer in layers]))

    def keep(self, places: Tensor) -> None:
        """Keep the values of the networks at these places, int64, in this order."""
        for name, weights in self.named_parameters(recurse=False):
            kept = weights.detach().index_select(0, places)
            setattr(self, name, nn.Parameter(kept, requires_grad=weights.requires_grad))
        for name, values in self.named_buffers(recurse=False):
            setattr(self, name, values.index_select(0, places))


class StackedLinear(Stacked):
    """Dense layers; over shared values [B, F] all of them are one matrix product."""

    weight: Tensor  # [K, out, in]
    bias: Tensor | None

    def __init__(self, layers: Sequence[nn.Module]):
        super().__init__(layers)
        self.bias = getattr(self, "bias", None)

    def forward(self, values: Tensor) -> Tensor:
        """Return [K, B, out] of [B, in] or [K, B, in]."""
        slots, units = self.weight.shape[:2]
        if values.dim() == 2:
            bias = None if self.bias is None else self.bias.flatten()
            return F.linear(values, self.weight.flatten(0, 1), bias).view(-1, slots, units).transpose(0, 1)
        kernels = self.weight.transpose(1, 2)
        if self.bias is None:
            return torch.bmm(values, kernels)
        return torch.baddbmm(self.bias.unsqueeze(1), values, kernels)


class StackedConv2d(Stacked):
    """Convolutions: one over shared images [B, C, H, W], else one of K groups."""

    weight: Tensor  # [K, out, in, h, w]
    bias: Tensor | None
    edges: tuple[Edges, Edges] | None  # otherwise, and in training

    def __init__(self, layers: Sequence[nn.Module]):
        super().__init__(layers)
        first = cast(nn.Conv2d, layers[0])
        self.bias = getattr(self, "bias", None)
        self.stride, self.padding = first.stride, first.padding
        self.edges = (first.edges, first.training_edges) if isinstance(first, SameConv2d) else None

    def forward(self, images: Tensor) -> Tensor:
        """Return [B, K * out, H', W'] of [B, in, H, W] or [B, K * in, H, W]."""
        if self.edges is not None and any(edges := self.edges[self.training]):
            images = F.pad(images, edges)
        bias = None if self.bias is None else self.bias.flatten()
        groups = images.shape[1] // self.weight.shape[2]
        return F.conv2d(images, self.weight.flatten(0, 1), bias, self.stride, self.padding, groups=groups)


class StackedBatchNorm(Stacked):
    """Batch normalizations, each with its own statistics."""

    weight: Tensor  # [K, C], as bias and the running statistics
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor  # [K]

    def __init__(self, layers: Sequence[nn.Module]):
        super().__init__(layers)
        first = cast(BatchNorm, layers[0])
        self.momentum, self.eps = cast(float, first.momentum), first.eps

    def forward(self, values: Tensor) -> Tensor:
        """Return values [K, B, C] or [B, K * C, H, W], normalized."""
        dense = values.dim() == 3
        flat = values.transpose(0, 1).flatten(1) if dense else values
        if self.training:
            self.num_batches_tracked.add_(1)
        statistics = self.running_mean.flatten(), self.running_var.flatten()
        affine = self.weight.flatten(), self.bias.flatten()
        out = F.batch_norm(flat, *statistics, *affine, self.training, self.momentum, self.eps)
        return out.view(len(out), *self.weight.shape).transpose(0, 1) if dense else out


class StackedFlatten(nn.Module):
    """Gives each network's dense layers its own image; a shared one stays shared."""

    def __init__(self, slots: int, shared: bool):
        super().__init__()
        self.slots = slots
        self.shared = shared  # whether it may meet images that all networks share: no convolution comes before

    def forward(self, images: Tensor) -> Tensor:
        """Return [K, B, C * H * W] of [B, K * C, H, W], or [B, C * H * W] of shared images."""
        if self.shared:
            return images.flatten(1)
        return images.view(len(images), self.slots, -1, *images.shape[2:]).flatten(2).transpose(0, 1)


class StackedDropout(nn.Module):
    """Dropout with a rate and random numbers of each network's own.

    On a CPU they are `cnnlab.models.dropout`'s, sixteen bits a value in the order of memory, so that a network meets
    the masks that it would meet alone. `generators` is shared with the stack, which removes those of networks that end.
    """

    def __init__(self, rates: Sequence[float], generators: list[torch.Generator]):
        super().__init__()
        self.rates = list(rates)
        self.generators = generators
        self.scales: Tensor | None = None  # [K, 1], by which kept values are multiplied

    def forward(self, values: Tensor) -> Tensor:
        """Return values [K, B, F] or [B, K * C, H, W], some zeroed and the others scaled up, in training."""
        if not self.training:
            return values
        slots, dense = len(self.rates), values.dim() == 3
        count = values.numel() // slots
        kept = torch.empty(slots, count, dtype=values.dtype, device=values.device)
        for mask, rate, generator in zip(kept, self.rates, self.generators, strict=True):
            self._draw(mask, rate, generator)
        if self.scales is None or self.scales.dtype != kept.dtype:
            shares = [self._kept_share(rate, kept.device) for rate in self.rates]
            self.scales = torch.tensor(shares, dtype=kept.dtype, device=kept.device).reciprocal_().unsqueeze(1)
        kept *= self.scales
        if dense:
            return values * kept.view(slots, *values.shape[1:])
        batch, channels, height, width = values.shape
        by_slot = kept.view(slots, batch, height, width, channels // slots)
        return values * by_slot.permute(1, 2, 3, 0, 4).reshape(batch, height, width, channels).permute(0, 3, 1, 2)

    def keep(self, places: Sequence[int]) -> None:
        """Keep the rates of the networks at these places."""
        self.rates, self.scales = [self.rates[place] for place in places], None

    @staticmethod
    def _kept_share(rate: float, device: torch.device) -> float:
        return 1 - (min(round(rate * 2**16), 2**16 - 1) / 2**16 if device.type == "cpu" else rate)

    def _draw(self, kept: Tensor, rate: float, generator: torch.Generator) -> None:
        """Fill one network's mask with zeros and ones."""
        share = self._kept_share(rate, kept.device)
        if kept.device.type != "cpu":
            kept.bernoulli_(share, generator=generator)
            return
        numbers = torch.empty((len(kept) + 3) // 4, dtype=torch.int64).random_(-(2**63), None, generator=generator)
        kept.copy_(numbers.view(torch.int16)[: len(kept)] >= round((1 - share) * 2**16) - 2**15)
