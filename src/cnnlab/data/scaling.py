"""From uint8 pixels to what the network sees."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from cnnlab.data.pixels import LEVELS
from cnnlab.data.rows import Images, chunks

Kind = Literal["raw", "unit", "standard"]


class Scaling(nn.Module):
    """(pixels - mean) / std, per channel, as part of the network, so that an exported model takes plain pixels.

    Its three kinds differ in the buffers alone: `raw` keeps 0..255, `unit` gives 0..1, `standard` gives mean 0 and
    standard deviation 1 over the images it was fitted to.
    """

    mean: Tensor
    inverse_std: Tensor

    def __init__(self, channels: int):
        """Leave pixels as they are, until `fit` or a state dict says otherwise."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("inverse_std", torch.ones(channels, 1, 1))

    @classmethod
    def fit(cls, kind: Kind, train_images: Images) -> Scaling:
        """Return the scaling of `kind`; `standard` measures `train_images`, uint8 [N, C, H, W], and nothing else."""
        scaling = cls(train_images.shape[1])
        if kind == "unit":
            scaling.inverse_std.fill_(1 / 255)
        elif kind == "standard":
            mean, std = channel_statistics(train_images)
            # A channel that never varies carries nothing: it becomes 0, not a division by 0.
            std = torch.where(std > 0, std, torch.ones_like(std))
            scaling.mean.copy_(mean.view(-1, 1, 1))
            scaling.inverse_std.copy_(std.reciprocal().view(-1, 1, 1))
        return scaling

    def forward(self, images: Tensor) -> Tensor:
        """Return [B, C, H, W] from uint8 or float pixels 0..255 of that shape, in their memory format.

        In float32, or the type that the whole network was converted to.
        """
        return ((images - self.mean) * self.inverse_std).to(self.mean.dtype)


def channel_statistics(images: Images) -> tuple[Tensor, Tensor]:
    """Return the mean and the population standard deviation of each channel, float64 [C], of uint8 [N, C, H, W].

    Both come from a count of the 256 levels, which is exact and needs no copy of the images in floating point.
    """
    level = torch.arange(LEVELS, dtype=torch.float64)
    counts = torch.zeros(images.shape[1], LEVELS, dtype=torch.float64)
    for part in chunks(images):
        for count, channel in zip(counts, part.unbind(1), strict=True):
            count += torch.bincount(channel.flatten(), minlength=LEVELS)
    means, stds = [], []
    for count in counts:
        mean = (count * level).sum() / count.sum()
        means.append(mean)
        stds.append(((count * (level - mean) ** 2).sum() / count.sum()).sqrt())
    return torch.stack(means), torch.stack(stds)
