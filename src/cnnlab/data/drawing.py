"""A drawing on a page: found whatever the paper, and put in its frame as those of the training images are in theirs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation, find_objects, gaussian_filter, label
from torch import Tensor

from cnnlab.data.pixels import border_brightness
from cnnlab.data.rows import Images

FloatArray = NDArray[np.float64]

LOOKED_AT = 1024  # pixels of a page's longer side; a larger page is reduced first
FAINTEST = 16  # levels that ink differs from paper at least
GRAIN = 5  # deviations of the paper's own grain that ink differs at least
HALF = 0.5  # of the ink's own level, from where on it counts as ink
SPECK = 0.03  # of the largest stroke's area, below which a stroke is a speck
LEAST = 0.02  # of a page's longer side, below which a stroke is a speck too
TOLERANCE = 0.1  # of the frame, within which a drawing stands as it should
SAMPLE = 2000  # training images looked at
ALIKE = 0.1  # of the frame, within which drawings count as made of one size
CLEARLY = 64  # levels from black or white that count as a dark or a light background


@dataclass(frozen=True)
class Frame:
    """How a dataset's drawings stand in their images: 5 %, median and 95 % of their longer side, as share of it."""

    low: float
    middle: float
    high: float

    @property
    def normalized(self) -> bool:
        """Whether somebody has scaled them to one size, as MNIST's were to 20 of 28 pixels; clothes' were not."""
        return self.high - self.low <= ALIKE


@dataclass(frozen=True)
class Drawing:
    """What was found on a page: the ink's strength [height, width], 0 to 1, in its bounding box, and its colour."""

    ink: FloatArray
    dark: bool


MNIST = Frame(20 / 28, 20 / 28, 20 / 28)


def measure_frame(images: Images, border: float) -> Frame | None:
    """Return how drawings stand in uint8 images [N, C, H, W] whose edges have the median brightness `border`.

    None for photos, which have no plain background, and for images that are all empty.
    """
    if min(border, 255 - border) > CLEARLY:
        return None
    sides = _sides(_lit(images[:: max(1, len(images) // SAMPLE)], border))
    sides = sides[sides > 0]
    if not len(sides):
        return None
    low, middle, high = torch.quantile(sides, torch.tensor([0.05, 0.5, 0.95])).tolist()
    return Frame(low, middle, high)


def stands_well(image: Tensor, border: float, frame: Frame) -> bool:
    """Return whether what is drawn on a uint8 image [C, H, W] is as large as in training, centred, on such a ground."""
    if abs(border_brightness(image[None]) - border) > CLEARLY / 2:
        return False
    ink = _lit(image[None], border)
    if not ink.any() or not frame.low - TOLERANCE <= float(_sides(ink)) <= frame.high + TOLERANCE:
        return False
    middles = zip(_centre(ink[0].double().numpy()), ink.shape[1:], strict=True)
    return all(abs(middle / side - 0.5) <= TOLERANCE for middle, side in middles)


def find_drawing(page: FloatArray, dark: bool | None = None) -> Drawing | None:
    """Return the drawing on a grey page [H, W] of values 0 to 255; None where there is none.

    Uneven light is taken out as a smooth surface. Ink is what differs from it by more than the paper's grain does, by
    at least half of what the drawing does, in strokes that are no specks. `dark`: whether the ink is darker than the
    paper; None looks for the more there is of.
    """
    page = gaussian_filter(page.astype(np.float64), max(page.shape) / 500)
    difference = page - _light(page)
    grain = 1.4826 * float(np.median(np.abs(difference)))  # the standard deviation, of normal noise
    least = max(FAINTEST, GRAIN * grain)
    if dark is None:
        dark = np.clip(-difference - least, 0, None).sum() > np.clip(difference - least, 0, None).sum()
    strength = np.clip(-difference if dark else difference, 0, None)
    strokes = _strokes(strength > least)
    if not strokes.any():
        return None
    level = float(np.quantile(strength[strokes], 0.95))
    strokes = _strokes(strength > max(least, HALF * level))
    if not strokes.any():
        return None
    rows, columns = (np.flatnonzero(strokes.any(axis=axis)) for axis in (1, 0))
    near = binary_dilation(strokes, iterations=max(2, max(page.shape) // 200))  # soft edges, no specks
    ink = np.where(near & (strength > least), np.clip(strength / level, 0, 1), 0)
    return Drawing(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], bool(dark))


def framed(drawing: Drawing, size: tuple[int, int], frame: Frame, border: float) -> Tensor:
    """Return the drawing as uint8 image [1, height, width], on the ground that training images have.

    As MNIST's were made (http://yann.lecun.com/exdb/mnist/): the longer side scaled to the frame's, and the centre of
    mass put in the middle, as far as all of the drawing stays in the image.
    """
    scale = min(side * frame.middle / length for side, length in zip(size, drawing.ink.shape, strict=True))
    height, width = (
        min(side, max(1, round(scale * length))) for side, length in zip(size, drawing.ink.shape, strict=True)
    )
    # Antialiased, or thin strokes would break; that makes them pale, so the strongest is full again.
    small = np.asarray(
        Image.fromarray(drawing.ink.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    )
    small = small / small.max()
    corner = [
        min(max(0, round(side / 2 - middle)), side - length)
        for side, middle, length in zip(size, _centre(small), small.shape, strict=True)
    ]
    image = np.zeros(size)
    image[corner[0] : corner[0] + height, corner[1] : corner[1] + width] = small
    levels = torch.from_numpy((255 * image).round().astype(np.uint8))[None]
    return levels if border < CLEARLY else 255 - levels


def _light(page: FloatArray) -> FloatArray:
    """Return the paper's brightness without the ink: the quadratic surface through what is not far from it."""
    down, across = (np.linspace(-1, 1, length) for length in page.shape)
    step = max(1, max(page.shape) // 64)
    rows, columns = np.meshgrid(down[::step], across[::step], indexing="ij")
    terms, seen = _quadratic(rows.ravel(), columns.ravel()), page[::step, ::step].ravel()
    kept = np.ones(len(seen), dtype=bool)
    for _ in range(8):
        weights = np.linalg.lstsq(terms[kept], seen[kept], rcond=None)[0]
        far = np.abs(seen - terms @ weights)
        kept = far <= max(4.0, 2.5 * 1.4826 * float(np.median(far)))
    rows, columns = np.meshgrid(down, across, indexing="ij")
    return np.asarray((_quadratic(rows.ravel(), columns.ravel()) @ weights).reshape(page.shape))


def _quadratic(rows: FloatArray, columns: FloatArray) -> FloatArray:
    return np.stack([np.ones_like(rows), rows, columns, rows * rows, rows * columns, columns * columns], axis=1)


def _strokes(marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the marked pixels without the specks: strokes that are short, or small beside the largest."""
    numbers, _ = label(marked, structure=np.ones((3, 3)))
    longest = [max(part.stop - part.start for part in box) for box in find_objects(numbers)]
    areas = np.bincount(numbers.ravel())
    areas[0] = 0  # the paper's
    large = (areas >= SPECK * areas.max()) & (np.array([0, *longest]) >= LEAST * max(marked.shape))
    return np.asarray(large[numbers])


def _centre(ink: FloatArray) -> tuple[float, float]:
    rows, columns = ink.sum(axis=1), ink.sum(axis=0)
    return float(rows @ np.arange(len(rows)) / rows.sum()), float(columns @ np.arange(len(columns)) / columns.sum())


def _lit(images: Tensor, border: float) -> Tensor:
    """Return where images [N, C, H, W] are nearer to ink than to their ground, [N, H, W]."""
    return (images.amax(dim=1) > 127) if border < CLEARLY else (images.amin(dim=1) < 128)


def _sides(ink: Tensor) -> Tensor:
    """Return the longer side of the box around the ink of each image [N, H, W], as share of the image's."""
    height, width = ink.shape[1:]
    return torch.maximum(_extent(ink.any(dim=2)) / height, _extent(ink.any(dim=1)) / width)


def _extent(marked: Tensor) -> Tensor:
    """Return how many places lie between the first and the last marked one of each row, both included; 0 for none."""
    places = torch.arange(1, marked.shape[1] + 1)
    last, first = (marked * places).amax(dim=1), (marked * places.flip(0)).amax(dim=1)
    return torch.where(last > 0, last + first - marked.shape[1], 0).float()
