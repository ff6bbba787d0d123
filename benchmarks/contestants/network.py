"""The recipe's network as a PyTorch user writes it, for those contestants that are not cnnlab."""

from __future__ import annotations

import torch
from torch import Tensor, nn

INITIALIZERS = {"glorot_uniform": nn.init.xavier_uniform_, "glorot_normal": nn.init.xavier_normal_}


def build(task: dict) -> nn.Sequential:
    """Return the network: floats [B, 1, H, W] to logits [B, classes]."""
    layers: list[nn.Module] = []
    for filters in task["filters"]:
        layers.append(nn.LazyConv2d(filters, task["kernel_size"], padding=task["padding"]))
        layers += [nn.ReLU(), nn.MaxPool2d(task["pool_size"])]
        if task["conv_dropout"]:
            layers.append(nn.Dropout(task["conv_dropout"]))
    layers.append(nn.Flatten())
    for units in task["hidden_units"]:
        layers += [nn.LazyLinear(units), nn.ReLU()]
        if task["dense_dropout"]:
            layers.append(nn.Dropout(task["dense_dropout"]))
    network = nn.Sequential(*layers, nn.LazyLinear(task["classes"]))
    network(torch.zeros(1, 1, *task["sides"]))
    for layer in kernels(network):
        INITIALIZERS[task["conv_initializer" if isinstance(layer, nn.Conv2d) else "dense_initializer"]](layer.weight)
        nn.init.zeros_(layer.bias)
    return network


def kernels(network: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    """Return the layers that the penalty counts."""
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def penalty(network: nn.Module, l2: float) -> Tensor | float:
    """Return Keras' kernel penalty."""
    return l2 * sum(layer.weight.square().sum() for layer in kernels(network)) if l2 else 0.0
