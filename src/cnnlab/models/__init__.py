"""Networks as plain `nn.Module`: maths only, no training."""

from __future__ import annotations

from torch import nn

from cnnlab.models.convnet import ConvNet
from cnnlab.models.layers import kernels
from cnnlab.models.mlp import MLP
from cnnlab.models.resnet import ResNet

# What `model.network` names.
NETWORKS: dict[str, type[nn.Module]] = {"convnet": ConvNet, "mlp": MLP, "resnet": ResNet}

__all__ = [
    "MLP",
    "NETWORKS",
    "ConvNet",
    "ResNet",
    "frozen_layers",
    "kernels",
    "layer_name",
    "parameter_count",
    "trained",
]


def layer_name(name: str) -> str:
    """Return the name of a layer or parameter as people know it: our networks keep all layers in one `layers`."""
    return name.removeprefix("layers.")


def parameter_count(module: nn.Module, *, trainable: bool = False) -> int:
    """Return the number of parameters of `module`, or of its `trainable` ones only."""
    return sum(weights.numel() for weights in module.parameters() if weights.requires_grad or not trainable)


def trained(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that a training changes: those that are not frozen."""
    return [weights for weights in network.parameters() if weights.requires_grad]


def frozen_layers(network: nn.Module) -> list[nn.Module]:
    """Return the layers whose own parameters are all frozen."""
    layers = []
    for layer in network.modules():
        own = list(layer.parameters(recurse=False))
        if own and not any(weights.requires_grad for weights in own):
            layers.append(layer)
    return layers
