"""The images that one of two sides gets right and the other does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cnnlab.figures.canvas import RIGHT, TRAIN, new_figure, save, show_image

COLUMNS = 8


class Flips(Protocol):
    """Images of a split: places, labels, and in how many of `seeds` trainings each side is right, all int64 [N]."""

    @property
    def index(self) -> NDArray[np.int64]: ...
    @property
    def label(self) -> NDArray[np.int64]: ...
    @property
    def a_right(self) -> NDArray[np.int64]: ...
    @property
    def b_right(self) -> NDArray[np.int64]: ...
    @property
    def seeds(self) -> int: ...


@dataclass(frozen=True)
class Block:
    """The images of one side: their places among all, the clearest first, of which `shown` are drawn."""

    winner: str
    loser: str
    color: str
    places: NDArray[np.int64]
    shown: int

    @property
    def rows(self) -> int:
        return -(-self.shown // COLUMNS)


def blocks(margin: NDArray[np.int64], count: int) -> list[Block]:
    """Return what is drawn of each side, `count` images at most; a side with few leaves its room to the other.

    `margin` is how many seeds more B is right in than A.
    """
    b, a = (np.flatnonzero(sign * margin > 0) for sign in (1, -1))
    half = count // 2
    shown = min(len(b), max(half, count - len(a))), min(len(a), max(half, count - len(b)))
    both = [
        Block(*names, places[np.argsort(-np.abs(margin[places]), kind="stable")], many)
        for names, places, many in zip((("B", "A", RIGHT), ("A", "B", TRAIN)), (b, a), shown, strict=True)
    ]
    return [block for block in both if block.shown]


def draw_flips(path: Path, images: Tensor, flips: Flips, names: Sequence[str], count: int) -> Path:
    """Draw the images that flipped most clearly, `count` at most, those for B above those for A.

    `images` are uint8 [M, C, H, W], where `flips.index` says which are meant.
    """
    drawn = blocks(flips.b_right - flips.a_right, count)
    figure = new_figure(1.35 * COLUMNS, sum(1.6 * block.rows + 0.5 for block in drawn))
    heights = [block.rows + 0.3 for block in drawn]
    parts = figure.subfigures(len(drawn), 1, squeeze=False, height_ratios=heights)
    for part, block in zip(parts.flat, drawn, strict=True):
        top = 1 - 0.65 / (1.6 * block.rows + 0.5)
        grid = part.subplots(
            block.rows, COLUMNS, squeeze=False, gridspec_kw={"hspace": 0.4, "bottom": 0.06, "top": top}
        )
        for axes in grid.flat[block.shown :]:
            axes.set_visible(False)
        for axes, place in zip(grid.flat, block.places[: block.shown], strict=False):
            show_image(axes, images[int(flips.index[place])])
            axes.set_title(f"true: {names[int(flips.label[place])]}", fontsize=8, pad=2)
            right = f"A {flips.a_right[place]}/{flips.seeds}  B {flips.b_right[place]}/{flips.seeds}"
            axes.set_xlabel(right, fontsize=8, color=block.color, labelpad=2)
        some = "" if block.shown == len(block.places) else f"{block.shown} of the "
        more = "" if flips.seeds == 1 else "more often "
        below = "" if flips.seeds == 1 else f"; below each, in how many of {flips.seeds} seeds a side is right"
        title = f"{some}{len(block.places):,} images that {block.winner} gets right {more}than {block.loser}{below}"
        part.suptitle(title, fontsize=10, color=block.color)
    return save(figure, path)
