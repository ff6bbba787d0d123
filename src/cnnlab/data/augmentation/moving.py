"""Augmentations that move the pixels of each image."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnlab.data.augmentation.base import Augmentation, rand


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
            mirrored = rand(number, 1, device=device) < 0.5
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
        random = rand(5, number, device=images.device) * 2 - 1
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


class Flip(Augmentation):
    """Mirrors a share `chance` of the images left to right: for clothes, not for digits."""

    def __init__(self, classes: int, *, chance: float):
        super().__init__(classes)
        self.chance = chance

    def change(self, images: Tensor) -> Tensor:
        mirrored = rand(len(images), 1, 1, 1, device=images.device) < self.chance
        return torch.where(mirrored, images.flip(3), images)
