"""A picture as a file: drawn without pyplot's global state, in a font that has the class names' characters, signed."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from numpy.typing import NDArray
from torch import Tensor

from cnnlab.figures.fonts import families_for, note_about

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

FloatArray = NDArray[np.float64]

DOTS_PER_INCH = 110
TRAIN, VALIDATION, RIGHT, WRONG, QUIET = "#0072B2", "#D55E00", "#009E73", "#D55E00", "#9AA5B1"  # Okabe and Ito, 2008
SIGNED = "#5B6774"
LONGEST_NAME = 18  # columns, as `width_of` counts them
MARGIN = 0.15  # inches around all that is drawn
STYLE: dict[RcKeyType, object] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "text.parse_math": False,  # a dollar sign in a class name is a dollar sign
}

LONGEST_SIGNATURE = 100  # columns
_signature: ContextVar[str] = ContextVar("signature", default="")


def signature() -> str:
    """Return what stands below every picture that is saved now."""
    return _signature.get()


@contextmanager
def signed(text: str) -> Iterator[None]:
    """Write `text`, which says what is drawn, small below every picture that is saved within the block."""
    token = _signature.set("\n".join(wrap(text, LONGEST_SIGNATURE)[:2]))
    try:
        yield
    finally:
        _signature.reset(token)


@contextmanager
def lettering(texts: Sequence[str], signature: str = "") -> Iterator[tuple[list[str], list[str]]]:
    """Draw with fonts for `texts`, class names first; yields them as they can be drawn, and a note where some cannot.

    A text in a script no installed font has becomes its number, which boxes would not tell.
    Every picture is signed.
    """
    families, missing = families_for([*texts, signature])
    drawable = "".join("?" if character in missing else character for character in signature)
    names = [f"no. {number}" if missing & set(text) else shorten(text) for number, text in enumerate(texts)]
    with matplotlib.rc_context({**STYLE, "font.family": families}), signed(drawable):
        yield names, [note_about(missing)] if missing else []


def shorten(name: str) -> str:
    """Return `name` in one line that fits beside a bar."""
    return cut(" ".join(name.split()), LONGEST_NAME)


def width_of(text: str) -> int:
    """Return how wide a text is, in Latin letters: a Hangul syllable or a Chinese character takes two of them."""
    return sum(
        0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in text
    )


def cut(text: str, longest: int) -> str:
    """Return a text with its end cut off where it takes more columns than that."""
    if width_of(text) <= longest:
        return text
    while width_of(text) > longest - 1:
        text = text[:-1]
    return f"{text.rstrip()}…"


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of that many inches."""
    return Figure(figsize=(width, height), dpi=DOTS_PER_INCH)


def save(figure: Figure, path: Path) -> Path:
    """Write the figure, signed, with as little margin as its texts allow."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The least compression: an eighth larger, and a third of the time of a run's pictures less.
    figure.savefig(path, bbox_inches=_sign(figure).padded(MARGIN), pil_kwargs={"compress_level": 1})
    return path


def _sign(figure: Figure) -> Bbox:
    """Write the signature below all that is drawn; return what is covered then, in inches."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # what it has laid out stays where it is
    covered = figure.get_tightbbox()
    if text := signature():
        left, below = covered.x0 / figure.get_figwidth(), (covered.y0 - 0.12) / figure.get_figheight()
        line = figure.text(left, below, text, fontsize=8, color=SIGNED, va="top")
        covered = Bbox.union([covered, line.get_window_extent().transformed(figure.dpi_scale_trans.inverted())])
    return covered


def show_image(axes: Axes, image: Tensor) -> None:
    """Draw a uint8 image [C, H, W] as it is: grey, or red, green and blue."""
    pixels = image.permute(1, 2, 0).numpy()
    if pixels.shape[2] == 3:
        axes.imshow(pixels)
    else:
        axes.imshow(pixels[:, :, 0], cmap="gray", vmin=0, vmax=255)
    bare(axes)


def bare(axes: Axes) -> None:
    """Take ticks and frame away."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def tiles(images: FloatArray, columns: int, gap: float) -> FloatArray:
    """Return images [N, H, W] or [N, H, W, 3] as one array of rows and columns, `gap` between them one pixel wide."""
    count, height, width = images.shape[:3]
    rows = -(-count // columns)
    sheet = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, *images.shape[3:]), gap, dtype=float)
    for place, image in enumerate(images):
        top, left = place // columns * (height + 1), place % columns * (width + 1)
        sheet[top : top + height, left : left + width] = image
    return sheet
