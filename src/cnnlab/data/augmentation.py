"""Random changes to the training images, on whole batches and on their device; validation and test never see them.

Each takes pixels 0..255, uint8 or float [B, C, H, W], and labels [B], and returns pixels of that shape and the targets
of the cross-entropy: the labels, or shares of the classes [B, classes].
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Augmentation(nn.Module):
    """What all have in common: the number of classes, for those that blend labels."""

    def __init__(self, classes: int):
        super().__init__()
        self.classes = classes

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return self.change(images), labels

    def change(self, images: Tensor) -> Tensor:
        """Return changed images of the same shape; labels stay."""
        raise NotImplementedError


class Shift(Augmentation):
    """Moves each image by its own whole number of pixels, up to `max_shift` either way in both directions.

    With `flip`, each is also mirrored left to right with a chance of one half: for clothes, not for digits.
    """

    def __init__(self, classes: int, *, max_shift: int, flip: bool):
        super().__init__(classes)
        self.max_shift = max_shift
        self.flip = flip

    def change(self, images: Tensor) -> Tensor:
        number, _, height, width = images.shape
        device, reach = images.device, self.max_shift
        padded = F.pad(images, (reach, reach, reach, reach)).permute(0, 2, 3, 1)
        down, right = torch.randint(0, 2 * reach + 1, (2, number, 1), device=device)
        rows = (down + torch.arange(height, device=device)).unsqueeze(2)
        columns = torch.arange(width, device=device).expand(number, width)
        if self.flip:
            mirrored = torch.rand(number, 1, device=device) < 0.5
            columns = torch.where(mirrored, width - 1 - columns, columns)
        columns = (right + columns).unsqueeze(1)
        return padded[torch.arange(number, device=device).view(-1, 1, 1), rows, columns].permute(0, 3, 1, 2)


class Affine(Augmentation):
    """Turns, scales, slants and moves each image by its own random amounts, with bilinear interpolation.

    `degrees` and `shear` are the largest angles in degrees, `scale` and `translate` the largest shares.
    """

    def __init__(self, classes: int, *, degrees: float, scale: float, translate: float, shear: float):
        super().__init__(classes)
        self.degrees = degrees
        self.scale = scale
        self.translate = translate
        self.shear = shear

    def change(self, images: Tensor) -> Tensor:
        number, _, height, width = images.shape
        random = torch.rand(5, number, device=images.device) * 2 - 1
        angle = random[0] * math.radians(self.degrees)
        slant = torch.tan(random[1] * math.radians(self.shear))
        size = 1 + random[2] * self.scale
        # affine_grid measures in half sides and asks where each pixel of the result comes from.
        move = random[3:] * 2 * self.translate
        # A turn must not stretch an image that is not square.
        aspect = height / width
        cosine, sine = torch.cos(angle) / size, torch.sin(angle) / size
        rows = [
            torch.stack([cosine, (slant * cosine - sine) * aspect, move[0]], 1),
            torch.stack([sine / aspect, slant * sine + cosine, move[1]], 1),
        ]
        grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
        return F.grid_sample(images.float(), grid, align_corners=False).contiguous(memory_format=torch.channels_last)


class Cutout(Augmentation):
    """Blackens one square of `size` pixels a side in each image; part of it may lie outside."""

    def __init__(self, classes: int, *, size: int):
        super().__init__(classes)
        self.size = size

    def change(self, images: Tensor) -> Tensor:
        number, _, height, width = images.shape
        outside = [self._outside(number, side, images.device) for side in (height, width)]
        return images * (outside[0].unsqueeze(2) | outside[1].unsqueeze(1)).unsqueeze(1)

    def _outside(self, number: int, side: int, device: torch.device) -> Tensor:
        """Return [number, side]: whether each row (or column) lies outside the square, whose centre is anywhere."""
        start = torch.randint(0, side, (number, 1), device=device) - self.size // 2
        position = torch.arange(side, device=device)
        return (position < start) | (position >= start + self.size)


class Mixup(Augmentation):
    """Blends each image with another of the batch and gives both labels their share; shares are Beta(alpha, alpha)."""

    def __init__(self, classes: int, *, alpha: float):
        super().__init__(classes)
        self.shares = torch.distributions.Beta(alpha, alpha)

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        number = len(labels)
        share = self.shares.sample((number,)).to(images.device)
        partner = torch.randperm(number).to(images.device)
        pixels = images.float()
        blend = share.view(-1, 1, 1, 1)
        targets = F.one_hot(labels, self.classes).float()
        mixed = share.view(-1, 1) * targets + (1 - share).view(-1, 1) * targets[partner]
        return blend * pixels + (1 - blend) * pixels[partner], mixed


KINDS: dict[str, type[Augmentation]] = {"shift": Shift, "affine": Affine, "cutout": Cutout, "mixup": Mixup}
