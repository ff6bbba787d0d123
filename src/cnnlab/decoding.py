"""One image file, of any format Pillow opens, as uint8 pixels.

Imports no torch: a process that does nothing but decode is there at once, and small.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

LEVELS_16_TO_8_BIT = 257
MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True)
class Form:
    """How image files are read: 1 (luminance) or 3 (red, green, blue) channels, (height, width), and `resize`.

    Of another aspect ratio than the size, `resize` keeps the middle (crop), keeps all and adds a border of the colour
    around the edges (pad), or stretches. A file of more than `max_pixels` is refused (None: than Pillow opens).
    """

    channels: int
    size: tuple[int, int]
    resize: str
    max_pixels: int | None


def read_pixels(path: str | Path, form: Form) -> NDArray[np.uint8]:
    """Return the image as uint8 [height, width, channels]: upright, opaque, resized with antialiasing.

    The camera's EXIF orientation is applied; transparency shows white, as in an image viewer; 16-bit grey becomes 8
    bit; of several frames the first counts. Raises Pillow's own errors for a file that is damaged or no image,
    ValueError for pixels without a fixed range, and for more of them than allowed.
    """
    height, width = form.size
    image = _opened(path, 2 * max(form.size), form.max_pixels)
    image = _resized(image.convert(MODES[form.channels]), (width, height), form.resize)
    return np.array(image).reshape(height, width, form.channels)


def read_page(path: str | Path, longest: int, *, max_pixels: int | None = None) -> NDArray[np.float64]:
    """Return the whole image in grey, [H, W] of values 0 to 255, reduced to at most `longest` pixels a side.

    Read as `read_pixels` does.
    """
    image = _opened(path, longest, max_pixels).convert("L")
    image.thumbnail((longest, longest), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.float64)


@contextmanager
def header_of(path: str | Path, max_pixels: int | None) -> Iterator[Image.Image]:
    """Yield an image file of which the header alone was read; raises ValueError for one of too many pixels.

    A file of a few kilobytes can decode to more than the memory holds.
    """
    with Image.open(path, formats=_formats()) as file:
        width, height = file.size
        if max_pixels is not None and width * height > max_pixels:
            raise ValueError(f"{width}x{height} are more pixels than max_pixels={max_pixels}")
        yield file


def _formats() -> list[str]:
    """Return the formats that are read: all of Pillow's but those that are programs, which Ghostscript would run."""
    Image.init()
    return [name for name in Image.OPEN if name != "EPS"]


def _opened(path: str | Path, needed: int, max_pixels: int | None) -> Image.Image:
    """Return the image upright, opaque, 8 bits deep, and of at least `needed` pixels a side, if it has them."""
    with header_of(path, max_pixels) as file:
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


def readable_extensions() -> set[str]:
    """Return the lower-case file name extensions, each with its dot, of the formats Pillow can open."""
    formats = _formats()
    return {extension for extension, name in Image.registered_extensions().items() if name in formats}


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
