"""The multi-layer perceptron."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn

from cnnlab.models.initializers import INITIALIZERS
from cnnlab.models.layers import ACTIVATIONS, NORMALIZATIONS, dense, hidden_layers
from cnnlab.models.options import Options


class MLP(nn.Module):
    """Flatten, then dense -> norm -> activation -> dropout for each of `hidden_units`, then a dense layer of logits.

    `input_shape` is (channels, height, width). `conv_dropout` is checked and then ignored: there is no convolution
    it could follow, but taking it lets every model compose with every regularization. Raises `UsageError` with
    every option that is wrong.
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
        options = Options()
        widths = options.widths("model.hidden_units", hidden_units, empty=True)
        activation = options.name("model.activation", activation, ACTIVATIONS)
        normalization = options.name("model.normalization", normalization, NORMALIZATIONS)
        initializer = options.name("model.dense_initializer", dense_initializer, INITIALIZERS)
        options.rate("regularization.conv_dropout", conv_dropout)
        dropout = options.rate("regularization.dense_dropout", dense_dropout)
        options.check()

        pixels = math.prod(input_shape)
        layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        layers.update(
            hidden_layers(
                pixels,
                widths,
                activation=activation,
                normalization=normalization,
                initializer=initializer,
                dropout=dropout,
            )
        )
        layers["logits"] = dense([pixels, *widths][-1], classes, initializer=initializer)
        self.layers = nn.Sequential(layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits [B, classes] of float images [B, C, H, W]."""
        return self.layers(images)
