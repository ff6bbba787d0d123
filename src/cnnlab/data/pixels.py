"""One image file, of any format Pillow opens, as a uint8 tensor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

LEVELS_16_TO_8_BIT = 257
MODES = {1: "L", 3: "RGB"}


def read_image(path: str | Path, channels: int, size: tuple[int, int], resize: str = "stretch") -> Tensor:
    """Return the image as uint8 [channels, height, width]: upright, opaque, resized with antialiasing.

    Of another aspect ratio than `size`, `resize` keeps the middle (crop), keeps all and adds a border of the colour
    around the edges (pad), or stretches.

    The camera's EXIF orientation is applied; transparency shows white, as in an image viewer; 16-bit grey becomes 8
    bit; of several frames the first counts. `channels` is 1 (luminance) or 3 (red, green, blue). Raises Pillow's own
    errors for a file that is damaged or no image, ValueError for pixels without a fixed range.
    """
    height, width = size
    image = _opened(path, 2 * max(size))
    image = _resized(image.convert(MODES[channels]), (width, height), resize)
    pixels = torch.from_numpy(np.array(image))
    return pixels.view(height, width, channels).permute(2, 0, 1).contiguous()


def read_page(path: str | Path, longest: int) -> NDArray[np.float64]:
    """Return the whole image in grey, [H, W] of values 0 to 255, reduced to at most `longest` pixels a side.

    Read as `read_image` does.
    """
    image = _opened(path, longest).convert("L")
    image.thumbnail((longest, longest), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.float64)


def _opened(path: str | Path, needed: int) -> Image.Image:
    """Return the image upright, opaque, 8 bits deep, and of at least `needed` pixels a side, if it has them."""
    with Image.open(path) as file:
        # Lets a JPEG decoder skip detail that the resize would drop; other formats ignore it.
        file.draft(None, (needed, needed))
        return _eight_bit(ImageOps.exif_transpose(file))


def _resized(image: Image.Image, size: tuple[int, int], resize: str) -> Image.Image:
    if resize == "crop":
        return ImageOps.fit(image, size, Image.Resampling.BILINEAR)
    if resize == "stretch":
        return image.resize(size, Image.Resampling.BILINEAR)
    small = ImageOps.contain(image, size, Image.Resampling.BILINEAR)
    pixels = np.asarray(small)
    edges = [edge.reshape(-1, *pixels.shape[2:]) for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])]
    border = np.median(np.concatenate(edges), axis=0).round().astype(int)
    return ImageOps.pad(small, size, Image.Resampling.BILINEAR, color=tuple(np.atleast_1d(border).tolist()))


def border_brightness(images: Tensor) -> float:
    """Return the median brightness, 0..255, of the outermost pixels of uint8 images [N, C, H, W]: their background."""
    edges = (images[..., 0, :], images[..., -1, :], images[..., :, 0], images[..., :, -1])
    return float(torch.cat([edge.flatten() for edge in edges]).median())


def readable_extensions() -> set[str]:
    """Return the lower-case file name extensions, each with its dot, of the formats Pillow can open."""
    return {extension for extension, name in Image.registered_extensions().items() if name in Image.OPEN}


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range")
    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.int64).clip(0, 2**16 - 1)
        return Image.fromarray((deep / LEVELS_16_TO_8_BIT).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image
