"""Networks as plain `nn.Module`: maths only, no training."""

from __future__ import annotations

from torch import nn

from cnnlab.models.convnet import ConvNet
from cnnlab.models.layers import kernels
from cnnlab.models.mlp import MLP

# What `model.network` names.
NETWORKS: dict[str, type[nn.Module]] = {"convnet": ConvNet, "mlp": MLP}

__all__ = ["MLP", "NETWORKS", "ConvNet", "kernels", "parameter_count"]


def parameter_count(module: nn.Module, *, trainable: bool = False) -> int:
    """Return the number of parameters of `module`, or of its `trainable` ones only."""
    return sum(weights.numel() for weights in module.parameters() if weights.requires_grad or not trainable)
