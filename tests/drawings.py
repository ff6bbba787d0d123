"""Pages with a drawing on them, as people photograph, scan and paint them."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

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


def draw_digit(path: Path) -> None:
    """Draw a one on a page, as somebody scans it."""
    page = Image.new("L", (200, 260), 255)
    ImageDraw.Draw(page).line([(100, 60), (100, 200)], fill=0, width=14)
    page.save(path)


def make_photos(folder: Path, classes: tuple[str, ...], each: int, seed: int = 0) -> None:
    """Make photos of mixed sizes and modes: each class has a colour of its own, some files are grey."""
    source = random.Random(seed)
    for index, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            size = source.choice([(40, 30), (64, 64), (90, 120)])
            level = 60 * (index + 1) + source.randint(-15, 15)
            grey = number % 5 == 0
            colour = level if grey else (level, source.randint(0, 255), 255 - level)
            extension = source.choice(["png", "jpg"])
            Image.new("L" if grey else "RGB", size, colour).save(folder / name / f"photo {seed}-{number}.{extension}")
