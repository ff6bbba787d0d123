"""Random changes to the training images, on whole batches and on their device; validation and test never see them.

Each takes pixels 0..255, uint8 or float [B, C, H, W], and labels [B] or shares of the classes [B, classes], and returns
pixels of that shape and the targets of the cross-entropy: what it was given, or blended shares. So they can follow each
other in any order. Their random numbers are torch's, of the images' device.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from cnnlab.data.augmentation.base import Augmentation
from cnnlab.data.augmentation.blending import CutMix, Mixup
from cnnlab.data.augmentation.erasing import Cutout, RandomErasing
from cnnlab.data.augmentation.moving import Affine, Flip, Shift

__all__ = ["KINDS", "Affine", "Augmentation", "CutMix", "Cutout", "Flip", "Mixup", "Parts", "RandomErasing", "Shift"]

KINDS: dict[str, type[Augmentation]] = {
    "shift": Shift,
    "affine": Affine,
    "flip": Flip,
    "cutout": Cutout,
    "random_erasing": RandomErasing,
    "mixup": Mixup,
    "cutmix": CutMix,
}


class Parts(nn.Module):
    """One augmentation after the other, in the order given."""

    def __init__(self, parts: Sequence[Augmentation]):
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the last part makes of what the ones before made of images and targets."""
        for part in self.parts:
            images, targets = part(images, targets)
        return images, targets
