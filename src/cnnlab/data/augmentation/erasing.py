"""Augmentations that take a piece of each image away."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cnnlab.data.augmentation.base import Augmentation, rand, within


class Cutout(Augmentation):
    """Blackens one square of `size` pixels a side in each image; part of it may lie outside (DeVries, Taylor, 2017)."""

    def __init__(self, classes: int, *, size: int):
        super().__init__(classes)
        self.size = size

    def change(self, images: Tensor) -> Tensor:
        number, _, height, width = images.shape
        rows, columns = (self._inside(number, side, images.device) for side in (height, width))
        return images * ~(rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)

    def _inside(self, number: int, side: int, device: torch.device) -> Tensor:
        """Return [number, side]: whether each row (or column) lies in the square, whose centre is anywhere."""
        return within(torch.randint(0, side, (number, 1), device=device) - self.size // 2, self.size, side)


class RandomErasing(Augmentation):
    """Replaces one rectangle, whole inside the image, in a share `chance` of the images (Zhong et al., 2020).

    Its part of the image lies in `area`, its height by its width in `ratio`, drawn evenly in its logarithm. `fill` is
    `noise`, random pixels of their own, or `black`. Where the authors draw again for a rectangle that does not fit, its
    longer side is cut to the image's: a batch is drawn in one go.
    """

    def __init__(
        self, classes: int, *, chance: float, area: tuple[float, float], ratio: tuple[float, float], fill: str
    ):
        super().__init__(classes)
        self.chance = chance
        self.area = area
        self.ratio = ratio
        self.fill = fill

    def change(self, images: Tensor) -> Tensor:
        number, _, height, width = images.shape
        chosen, area, ratio, top, left = rand(5, number, 1, device=images.device)
        pixels = (self.area[0] + area * (self.area[1] - self.area[0])) * height * width
        low, high = (math.log(value) for value in self.ratio)
        stretch = torch.exp((low + ratio * (high - low)) / 2)
        rows = self._inside(pixels.sqrt() * stretch, top, height)
        columns = self._inside(pixels.sqrt() / stretch, left, width)
        erased = (rows.unsqueeze(2) & columns.unsqueeze(1) & (chosen < self.chance).unsqueeze(2)).unsqueeze(1)
        if self.fill == "black":
            return images * ~erased
        noise = torch.randint(0, 256, images.shape, dtype=torch.uint8, device=images.device)
        return torch.where(erased, noise.to(images.dtype), images)

    def _inside(self, size: Tensor, place: Tensor, side: int) -> Tensor:
        """Return [B, side]: which rows (or columns) lie in a side of `size` pixels at `place`, from 0 to 1."""
        whole = size.round().clamp(1, side)
        return within((place * (side - whole + 1)).floor(), whole, side)
