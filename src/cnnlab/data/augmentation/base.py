"""What all augmentations have in common."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Augmentation(nn.Module):
    """Changes the images of a batch, in float32 or uint8 whatever the precision of the training.

    `classes` is their number, for those that blend targets.
    """

    def __init__(self, classes: int):
        super().__init__()
        self.classes = classes

    def forward(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return changed images of the same shape [B, C, H, W], and their targets."""
        # Autocast would take a grid's matrix product, and with it where each pixel comes from, in bfloat16.
        with torch.autocast(images.device.type, enabled=False):
            return self.changed(images, targets)

    def changed(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return changed images and their targets."""
        return self.change(images), targets

    def change(self, images: Tensor) -> Tensor:
        """Return changed images, where their targets stay."""
        raise NotImplementedError

    def shares(self, targets: Tensor) -> Tensor:
        """Return targets as shares of the classes, float32 [B, classes]."""
        return targets if targets.is_floating_point() else F.one_hot(targets, self.classes).float()


def rand(*size: int, device: torch.device) -> Tensor:
    """Return float32 random numbers from 0 to 1: torch's default is another type in a training of `bf16-true`."""
    return torch.rand(*size, device=device, dtype=torch.float32)


def within(start: Tensor, size: Tensor | int, side: int) -> Tensor:
    """Return [B, side]: whether each row (or column) lies in the `size` pixels from `start` [B, 1] on."""
    position = torch.arange(side, device=start.device)
    return (position >= start) & (position < start + size)
