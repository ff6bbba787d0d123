"""Networks of torchvision's, without their weights, adapted to the channels and to small images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torchvision
from torch import nn
from torchvision import models

SMALL = 64  # pixels a side, at most, of images that the first layers do not shrink
# Made for 224 pixels, their first convolution takes every second one; in the last of them a max pooling does so again.
SHRINKING = (
    models.ResNet,
    models.DenseNet,
    models.ShuffleNetV2,
    models.EfficientNet,
    models.MobileNetV2,
    models.MobileNetV3,
    models.MNASNet,
    models.RegNet,
)
POOLING = (models.ResNet, models.DenseNet, models.ShuffleNetV2)
# What else they have to be told: no second output in training, and the size where it is part of the network.
PLAIN = {"googlenet": {"aux_logits": False, "init_weights": True}, "inception_v3": {"aux_logits": False}}


def architectures() -> list[str]:
    """Return the names of torchvision's classifiers."""
    return models.list_models(module=torchvision.models)


def published(arch: str, input_shape: tuple[int, int, int], classes: int, *, dense_dropout: float) -> nn.Module:
    """Return torchvision's network `arch` for images [C, H, W], its weights drawn anew.

    The first convolution takes C channels. On images of at most 64 pixels a side the `SHRINKING` ones keep their size
    at first, by a convolution of 3x3 with stride 1 and without max pooling. Where the architecture has dropout, its
    rate is `dense_dropout`. Raises what torchvision raises for sizes it cannot take.
    """
    channels, height, width = input_shape
    options: dict[str, object] = {"num_classes": classes, **PLAIN.get(arch, {})}
    if arch.startswith("vit_"):
        options["image_size"] = height
    elif arch.startswith("maxvit_"):
        options["input_size"] = (height, width)
    network = models.get_model(arch, weights=None, **options)
    small = is_small(network, input_shape)
    name, first = next(_layers(network, nn.Conv2d))
    if channels != first.in_channels or small:
        _replace(network, name, _first(cast(nn.Conv2d, first), channels, small))
    if small and isinstance(network, POOLING):
        name, _ = next(_layers(network, nn.MaxPool2d))
        _replace(network, name, nn.Identity())
    for layer in dropouts(network):
        layer.p = dense_dropout
    return network


def is_small(network: nn.Module, input_shape: tuple[int, int, int]) -> bool:
    """Return whether the network's first layers are adapted to images of this shape."""
    return isinstance(network, SHRINKING) and max(input_shape[1:]) <= SMALL


def dropouts(network: nn.Module) -> list[nn.Dropout]:
    """Return the dropout layers that the architecture has by itself."""
    return [layer for layer in network.modules() if isinstance(layer, nn.Dropout) and layer.p > 0]


def description(network: nn.Module, input_shape: tuple[int, int, int], *, dropout: bool) -> str:
    """Return in words what was adapted; where `dropout` is asked for, also what has no place in the network."""
    said = [f"first convolution for {input_shape[0]} channels"]
    if is_small(network, input_shape):
        pooling = " and no max pooling" if isinstance(network, POOLING) else ""
        said[0] += f", 3x3 with stride 1{pooling}, as images have at most {SMALL} pixels a side"
    if dropout:
        placed = any(isinstance(layer, nn.Dropout) for layer in network.modules())
        where = "dense_dropout where the architecture has dropout" if placed else "no dropout in this architecture"
        said.append(f"regularization: {where}, no conv_dropout; penalties as everywhere")
    return "; ".join(said)


def _first(before: nn.Conv2d, channels: int, small: bool) -> nn.Conv2d:
    shape = {"kernel_size": 3, "stride": 1, "padding": 1} if small else {
        "kernel_size": before.kernel_size, "stride": before.stride, "padding": before.padding
    }  # fmt: skip
    after = nn.Conv2d(channels, before.out_channels, bias=before.bias is not None, **shape)
    nn.init.kaiming_normal_(after.weight, mode="fan_out", nonlinearity="relu")
    if after.bias is not None:
        nn.init.zeros_(after.bias)
    return after


def _layers(network: nn.Module, kind: type[nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    return ((name, layer) for name, layer in network.named_modules() if isinstance(layer, kind))


def _replace(network: nn.Module, name: str, layer: nn.Module) -> None:
    path, _, last = name.rpartition(".")
    setattr(network.get_submodule(path), last, layer)
