"""Images that are read, or gathered, when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

CHUNK = 2**24  # bytes looked at in one piece


@dataclass(frozen=True, eq=False)
class Rows:
    """Those of `images`, uint8 [M, C, H, W], that `index`, int64 [N], names, in its order, and no copy of them."""

    images: Tensor
    index: Tensor

    @property
    def shape(self) -> torch.Size:
        """[N, C, H, W]."""
        return torch.Size([len(self.index), *self.images.shape[1:]])

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, places: int | slice[int | None, int | None, int | None] | Sequence[int] | Tensor) -> Tensor:
        """Return a copy of one image [C, H, W], or of several [B, C, H, W]."""
        return self.images[self.index[places]]


Images: TypeAlias = Tensor | Rows


def chunks(images: Images) -> Iterator[Tensor]:
    """Yield all of a tensor, or of the images, one piece of some megabytes after the other."""
    size = images[:1].nbytes
    rows = max(1, CHUNK // max(1, size))
    for start in range(0, len(images), rows):
        yield images[start : start + rows]


def same(images: Images, others: Images) -> bool:
    """Return whether all pixels are equal."""
    return images.shape == others.shape and all(map(torch.equal, chunks(images), chunks(others)))
