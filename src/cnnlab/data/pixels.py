"""Pixels as tensors: those of one image file, and what is around the edges of many."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from cnnlab.data.rows import Images, chunks
from cnnlab.decoding import Form, read_pixels

LEVELS = 256


def read_image(
    path: str | Path, channels: int, size: tuple[int, int], resize: str = "stretch", *, max_pixels: int | None = None
) -> Tensor:
    """Return the image as uint8 [channels, height, width], read as `cnnlab.decoding.read_pixels` reads it."""
    pixels = torch.from_numpy(read_pixels(path, Form(channels, size, resize, max_pixels)))
    return pixels.permute(2, 0, 1).contiguous()


def border_brightness(images: Images) -> float:
    """Return the median brightness, 0..255, of the outermost pixels of uint8 images [N, C, H, W]: their background."""
    count = torch.zeros(LEVELS, dtype=torch.int64)
    for part in chunks(images):
        edges = (part[..., 0, :], part[..., -1, :], part[..., :, 0], part[..., :, -1])
        count += torch.bincount(torch.cat([edge.flatten() for edge in edges]), minlength=LEVELS)
    middle = (count.sum() - 1) // 2  # of an even number the lower one, as torch.median has it
    return float((count.cumsum(0) <= middle).sum())
