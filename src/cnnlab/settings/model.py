"""The `model` section: the networks that ship, torchvision's, and a user's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Strict, Tag

from cnnlab.errors import refused
from cnnlab.settings.base import Count, Counts, Own, Says, Section, Text, ToldBy, Whole

# What cnnlab.models has by these names; a test holds them together.
Activation = Literal["relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid"]
Initializer = Literal["glorot_normal", "glorot_uniform", "he_normal", "he_uniform"]
Normalization = Literal["none", "batch"]

EACH = Says("a whole number of at least 1, or a list with one for each of model.filters")
EACH_OR_NONE = Says("a whole number of at least 1, 0 or null, or a list with one for each of model.filters")
PerLayer = Annotated[Count | Counts, EACH]
Filters = Annotated[
    tuple[Count, ...],
    Field(min_length=1),
    Strict(False),
    Says("a list of whole numbers of at least 1, such as [32, 64]"),
]
Units = Annotated[Counts, Says("a list of whole numbers of at least 1, such as [64], or [] for none")]


class Network(Section):
    """What both networks have in common."""

    name: Text = Field(description="the network's name in tags and tables")
    hidden_units: Units = Field(description="widths of the dense layers before the logits")
    activation: Activation = Field(description="after every layer but the logits")
    normalization: Normalization = Field(description="batch: batch normalization before every activation")
    dense_initializer: Initializer = Field(description="of the dense layers' kernels")


class MLP(Network):
    """Dense layers alone."""

    network: Literal["mlp"] = Field(description="which network")


class ConvNet(Network):
    """Convolutions, then dense layers."""

    network: Literal["convnet"] = Field(description="which network")
    filters: Filters = Field(description="one convolution each")
    kernel_size: PerLayer = Field(description="pixels")
    stride: PerLayer = Field(description="pixels")
    padding: Literal["same", "valid"] = Field(description="same: as large as before; valid: without padding")
    pooling: Literal["max", "average", "none"] = Field(description="after every convolution that has a pool_size")
    pool_size: Annotated[Whole | Annotated[tuple[Whole | None, ...], Strict(False)] | None, EACH_OR_NONE] = Field(
        description="pixels; 0 or null: no pooling"
    )
    conv_initializer: Initializer = Field(description="of the convolutions' kernels")

    def conflicts(self, path: str) -> Iterator[str]:
        layers = len(self.filters)
        for name, says in (("kernel_size", EACH), ("stride", EACH), ("pool_size", EACH_OR_NONE)):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != layers:
                yield f"{refused(path + name, value, says.allowed)}: {len(value)} given for {layers} filters"


class ResNet(Section):
    """Residual blocks."""

    name: Text = Field(description="the network's name in tags and tables")
    network: Literal["resnet"] = Field(description="which network")
    depth: Annotated[int, Field(ge=8)] = Field(description="6n + 2: n blocks of two convolutions in each of 3 stages")
    width: Count = Field(description="filters of the first stage; the next ones have twice and four times as many")
    activation: Activation = Field(description="before every convolution but the first")
    conv_initializer: Initializer = Field(description="of the convolutions' kernels")
    dense_initializer: Initializer = Field(description="of the logits' kernel")

    def conflicts(self, path: str) -> Iterator[str]:
        if self.depth % 6 != 2:
            near = max(8, 6 * round((self.depth - 2) / 6) + 2)
            yield f"{refused(f'{path}depth', self.depth, '6n + 2: 8, 14, 20, 26, ...')}; did you mean {near}?"


class TorchVision(Section):
    """One of torchvision's networks, without its weights."""

    name: Text = Field(description="the network's name in tags and tables")
    network: Literal["torchvision"] = Field(description="which network")
    arch: Text = Field(description="torchvision's name of the architecture: resnet18, mobilenet_v3_small, ...")


NETWORKS = ("convnet", "mlp", "resnet", "torchvision")
Model = Annotated[
    Annotated[ConvNet, Tag("convnet")] | Annotated[MLP, Tag("mlp")] | Annotated[ResNet, Tag("resnet")]
    | Annotated[TorchVision, Tag("torchvision")]
    | Annotated[Own, Tag("own")],
    Discriminator(ToldBy("network", NETWORKS)),
]  # fmt: skip
