"""Augmentations that blend each image with another of its batch, and their targets alike."""

from __future__ import annotations

import torch
from torch import Tensor

from cnnlab.data.augmentation.base import Augmentation, rand, within


class Mixup(Augmentation):
    """Blends each image with another of the batch and gives both labels their share; shares are Beta(alpha, alpha).

    Zhang et al., 2018.
    """

    def __init__(self, classes: int, *, alpha: float):
        super().__init__(classes)
        self.draw = beta(alpha)

    def changed(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        number = len(targets)
        share = self.draw.sample((number,)).to(images.device)
        partner = torch.randperm(number).to(images.device)
        pixels = images.float()
        blend = share.view(-1, 1, 1, 1)
        shares = self.shares(targets)
        mixed = share.view(-1, 1) * shares + (1 - share).view(-1, 1) * shares[partner]
        return blend * pixels + (1 - blend) * pixels[partner], mixed


class CutMix(Augmentation):
    """Pastes a rectangle of another image of the batch into each image; labels get the share of their pixels.

    The rectangle has the image's shape and a part of its area drawn from Beta(alpha, alpha); its centre is anywhere, so
    that part of it may lie outside (Yun et al., 2019; every image has its own rectangle here).
    """

    def __init__(self, classes: int, *, alpha: float):
        super().__init__(classes)
        self.draw = beta(alpha)

    def changed(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        number, _, height, width = images.shape
        side = self.draw.sample((number, 1)).to(images.device).sqrt()
        partner = torch.randperm(number).to(images.device)
        across, down = rand(2, number, 1, device=images.device)
        rows = within((down * height - side * height / 2).round(), (side * height).round(), height)
        columns = within((across * width - side * width / 2).round(), (side * width).round(), width)
        pasted = rows.unsqueeze(2) & columns.unsqueeze(1)
        shares = self.shares(targets)
        theirs = pasted.float().mean((1, 2)).unsqueeze(1)
        blend = (1 - theirs) * shares + theirs * shares[partner]
        return torch.where(pasted.unsqueeze(1), images[partner], images), blend


def beta(alpha: float) -> torch.distributions.Beta:
    """Return Beta(alpha, alpha) in float32, whatever torch's default type is when it is made."""
    both = torch.tensor(alpha, dtype=torch.float32)
    return torch.distributions.Beta(both, both)
