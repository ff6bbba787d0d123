"""The pre-activation residual network of He et al., "Identity Mappings in Deep Residual Networks", 2016."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from cnnlab.models.dropout import Dropout
from cnnlab.models.layers import ACTIVATIONS, convolution, dense

Shape = tuple[int, int, int]
STAGES = 3  # each with twice the filters of the one before, on half the pixels a side


class ResidualBlock(nn.Module):
    """norm -> activation -> conv -> norm -> activation -> conv, added to what came in.

    Where filters or pixels change, what came in is brought to the new shape by a 1x1 convolution of the first
    activation. Dropout lies between the convolutions (Zagoruyko and Komodakis, 2016). `shape` is (C, H, W).
    """

    def __init__(self, shape: Shape, filters: int, stride: int, *, activation: str, initializer: str, dropout: float):
        super().__init__()
        self.shape = halved(shape, stride, filters)
        self.norm1, self.activation1 = nn.BatchNorm2d(shape[0]), ACTIVATIONS[activation]()
        self.conv1 = same_size(shape, filters, kernel_size=3, stride=stride, initializer=initializer)
        self.norm2, self.activation2 = nn.BatchNorm2d(filters), ACTIVATIONS[activation]()
        self.dropout = Dropout(dropout) if dropout > 0 else None
        self.conv2 = same_size(self.shape, filters, kernel_size=3, stride=1, initializer=initializer)
        self.shortcut: nn.Conv2d | None = None
        if stride > 1 or filters != shape[0]:
            self.shortcut = same_size(shape, filters, kernel_size=1, stride=stride, initializer=initializer)

    def forward(self, images: Tensor) -> Tensor:
        """Return [B, F, H', W'] of images [B, C, H, W]."""
        active = self.activation1(self.norm1(images))
        kept = images if self.shortcut is None else self.shortcut(active)
        inner = self.activation2(self.norm2(self.conv1(active)))
        if self.dropout is not None:
            inner = self.dropout(inner)
        return kept + self.conv2(inner)


class ResNet(nn.Module):
    """A 3x3 convolution, three stages of residual blocks, their global average, and the logits.

    `depth` is 6n + 2 and counts the convolutions and the logits: n blocks a stage. The stages have `width`, 2 `width`
    and 4 `width` filters; the second and third begin by halving the image, rounded up, so that every size fits.
    `conv_dropout` lies in every block, `dense_dropout` before the logits. Raises ValueError for another depth.
    """

    def __init__(
        self,
        input_shape: Shape,
        classes: int,
        *,
        depth: int,
        width: int,
        activation: str,
        conv_initializer: str,
        dense_initializer: str,
        conv_dropout: float,
        dense_dropout: float,
    ) -> None:
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"depth {depth} is not 6n + 2")
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["conv"] = same_size(input_shape, width, kernel_size=3, stride=1, initializer=conv_initializer)
        shape = halved(input_shape, 1, width)
        for stage in range(STAGES):
            for number in range(depth // 6):
                stride = 2 if stage > 0 and number == 0 else 1
                block = ResidualBlock(
                    shape,
                    width * 2**stage,
                    stride,
                    activation=activation,
                    initializer=conv_initializer,
                    dropout=conv_dropout,
                )
                layers[f"block{stage + 1}_{number + 1}"] = block
                shape = block.shape
        layers["norm"] = nn.BatchNorm2d(shape[0])
        layers["activation"] = ACTIVATIONS[activation]()
        layers["pool"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
        if dense_dropout > 0:
            layers["dropout"] = Dropout(dense_dropout)
        layers["logits"] = dense(shape[0], classes, initializer=dense_initializer)
        self.layers = nn.Sequential(layers)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [B, classes] of float images [B, C, H, W]."""
        return self.layers(images)


def same_size(shape: Shape, filters: int, *, kernel_size: int, stride: int, initializer: str) -> nn.Conv2d:
    """Return a convolution that pads to `same`, without a bias: a normalization follows."""
    return convolution(
        shape,
        filters,
        kernel_size=kernel_size,
        stride=stride,
        padding="same",
        bias=False,
        initializer=initializer,
    )


def halved(shape: Shape, stride: int, filters: int) -> Shape:
    """Return the shape (C, H, W) after a convolution that pads to `same`."""
    return filters, -(-shape[1] // stride), -(-shape[2] // stride)
