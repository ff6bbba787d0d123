"""Batch normalization over the whole batch where several CPU processes share it; torch's own does so on GPUs alone."""

from __future__ import annotations

from types import MethodType

import torch
import torch.distributed
from pytorch_lightning.plugins.layer_sync import LayerSync
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm


class WholeBatchNorm(LayerSync):
    """Lets the layers of a model see the whole batch while it is trained, as `torch.nn.SyncBatchNorm` does."""

    def apply(self, model: nn.Module) -> nn.Module:
        for layer in self._layers(model):
            layer.forward = MethodType(over_the_whole_batch, layer)  # type: ignore[method-assign]
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        for layer in self._layers(model):
            layer.__dict__.pop("forward", None)
        return model

    def _layers(self, model: nn.Module) -> list[BatchNorm]:
        return [layer for layer in model.modules() if isinstance(layer, BatchNorm)]


class Summed(torch.autograd.Function):
    """The sum of a tensor over all processes; each gets the sum of the gradients, too."""

    @staticmethod
    def forward(context: torch.autograd.function.FunctionCtx, values: Tensor) -> Tensor:
        total = values.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        torch.distributed.all_reduce(total)
        return total


def over_the_whole_batch(layer: BatchNorm, values: Tensor) -> Tensor:
    """Return values [B, C, ...] normalized by mean and variance of all processes' values; in evaluation as always.

    The sums are float64, so that the square of a mean can be taken from the mean of squares. A process may have none.
    """
    if not layer.training:
        return type(layer).forward(layer, values)
    others = [dimension for dimension in range(values.dim()) if dimension != 1]
    exact = values.double()
    count = exact.new_tensor([values.numel() / values.shape[1]])
    sums = Summed.apply(torch.cat([exact.sum(others), exact.square().sum(others), count]))
    channels, count = values.shape[1], sums[-1].detach()
    mean = sums[:channels] / count
    variance = (sums[channels:-1] / count - mean.square()).clamp(min=0)
    if layer.running_mean is not None and layer.running_var is not None and layer.num_batches_tracked is not None:
        layer.num_batches_tracked.add_(1)
        share = layer.momentum if layer.momentum is not None else 1 / float(layer.num_batches_tracked)
        unbiased = variance.detach() * count / (count - 1).clamp(min=1)
        layer.running_mean.lerp_(mean.detach().to(layer.running_mean.dtype), share)
        layer.running_var.lerp_(unbiased.to(layer.running_var.dtype), share)
    shape = [channels if dimension == 1 else 1 for dimension in range(values.dim())]
    scale, shift = (variance + layer.eps).rsqrt(), torch.zeros_like(mean)
    if layer.affine:
        scale, shift = scale * layer.weight, layer.bias.to(scale.dtype)
    shift = shift - mean * scale
    return values * scale.to(values.dtype).view(shape) + shift.to(values.dtype).view(shape)
