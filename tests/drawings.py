"""Pages with a drawing on them, as people photograph, scan and paint them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Brightness of paper and ink, grain, and how much brighter one side of the page is than the other.
PAPERS = {
    "white": (255, 0, 0, 0),
    "grey, with grain": (190, 60, 4, 0),
    "unevenly lit": (170, 50, 3, 90),
    "light on dark": (10, 240, 3, 0),
    "pencil": (225, 150, 3, 30),
}


def page(
    paper: str, ink: NDArray[np.uint8] | None, size: int = 100, corner: tuple[int, int] = (30, 40), specks: int = 0
):
    """Return a page of 420x520 pixels with light-on-dark `ink` drawn on it, `size` pixels high, from `corner` on."""
    ground, drawn, grain, uneven = PAPERS[paper]
    noise = np.random.default_rng(size)
    height, width = 420, 520
    levels = ground + uneven * np.linspace(-0.5, 0.5, width)[None] + noise.normal(0, 1, (height, width)) * grain
    if ink is not None:
        large = np.asarray(Image.fromarray(ink).resize((size, size), Image.Resampling.BICUBIC)) / 255
        top, left = corner
        place = levels[top : top + size, left : left + size]
        place[:] = place * (1 - large) + drawn * large
    for down, across in noise.integers(2, 400, (specks, 2)):
        levels[down : down + 2, across : across + 2] = drawn
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))
