"""The multi-layer perceptron."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn

from cnnlab.models.layers import dense, hidden_layers


class MLP(nn.Module):
    """Flatten, then dense -> norm -> activation -> dropout for each of `hidden_units`, then a dense layer of logits.

    `input_shape` is (channels, height, width). `conv_dropout` is ignored: there is no convolution it could follow, but
    taking it lets every model compose with every regularization.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        classes: int,
        *,
        hidden_units: Sequence[int],
        activation: str,
        normalization: str,
        dense_initializer: str,
        conv_dropout: float,
        dense_dropout: float,
    ) -> None:
        super().__init__()
        pixels = math.prod(input_shape)
        layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        layers.update(
            hidden_layers(
                pixels,
                hidden_units,
                activation=activation,
                normalization=normalization,
                initializer=dense_initializer,
                dropout=dense_dropout,
            )
        )
        layers["logits"] = dense([pixels, *hidden_units][-1], classes, initializer=dense_initializer)
        self.layers = nn.Sequential(layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits [B, classes] of float images [B, C, H, W]."""
        return self.layers(images)
