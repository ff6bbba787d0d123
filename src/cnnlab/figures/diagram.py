"""A diagram of the network: a card for each layer, or each block of a deep one, in columns from top to bottom."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from torch import nn

from cnnlab.figures.canvas import STYLE, cut, new_figure, save, signature
from cnnlab.figures.fonts import families_for
from cnnlab.models import parameter_count
from cnnlab.models.structure import Part, parts

MOST_COLUMNS = 4
FEWEST_ROWS = 3
CARD, GAP = (2.05, 0.62), (0.3, 0.22)  # inches
LONGEST_KIND, LONGEST_NAME = 25, 34  # characters that fit into a card
# The first that is part of the class' name; a light colour, so that the text on it can be read.
COLORS = {
    "Conv": "#BBD7EA",
    "Linear": "#F6D2B0",
    "Norm": "#E3D5EC",
    "Pool": "#BDE3D2",
    "Drop": "#E5E7EA",
}
INPUT, BLOCK, OTHER = "#FFFFFF", "#F3E9A9", "#F4F5F6"
LINE, SOFT = "#3B4754", "#5B6774"


def draw_network(folder: Path, network: nn.Module, input_shape: tuple[int, int, int]) -> Path:
    """Draw the layers in the order they run, each with its kind, name, output shape and number of parameters."""
    found = parts(network, input_shape)
    cards = [("input", "", by(input_shape), INPUT)] + [card(part) for part in found]
    columns = max(1, min(MOST_COLUMNS, len(cards) // FEWEST_ROWS))
    rows = -(-len(cards) // columns)
    width, height = (count * (CARD[axis] + GAP[axis]) - GAP[axis] for axis, count in enumerate((columns, rows)))
    families, _ = families_for([signature(), *(text for kind, name, *_ in cards for text in (kind, name))])
    with matplotlib.rc_context({**STYLE, "font.family": families}):
        figure = new_figure(width, height)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
        axes.axis("off")
        corners = [
            (place // rows * (CARD[0] + GAP[0]), place % rows * (CARD[1] + GAP[1])) for place in range(len(cards))
        ]
        for (left, top), texts in zip(corners, cards, strict=True):
            draw_card(axes, left, top, *texts)
        for place, part in enumerate(found):
            draw_arrow(axes, corners[place], corners[place + 1], part.direct)
        axes.text(0, -GAP[1], title(network, found), fontsize=10, va="bottom", linespacing=1.4)
        return save(figure, folder / "network.png")


def title(network: nn.Module, found: list[Part]) -> str:
    """Return what the whole is, and what a dotted arrow means where there is one."""
    lines = [f"{type(network).__name__}: {parameter_count(network):,} parameters"]
    if (trainable := parameter_count(network, trainable=True)) != parameter_count(network):
        lines[0] += f", {trainable:,} of them trained"
    lines.append("each card: kind, name, output shape, parameters")
    if not all(part.direct for part in found):
        lines.append("dotted: what is not just handed on (a sum, a branch, a reshaping)")
    return "\n".join(lines)


def card(part: Part) -> tuple[str, str, str, str]:
    """Return a part's heading, its name, its output with its parameters, and its colour."""
    kind = type(part.module).__name__
    block = part.layers > 1
    color = BLOCK if block else next((color for word, color in COLORS.items() if word in kind), OTHER)
    heading = f"{kind}, {part.layers} layers" if block else f"{kind} {details(part.module)}".strip()
    if part.again:
        heading, size = f"{heading}, again", ""
    else:
        count = parameter_count(part.module)
        size = f"{count:,}" if count else ""
    # Our networks keep all layers in one `layers`, which says nothing on every card.
    name = part.name.removeprefix("layers.")
    return cut(heading, LONGEST_KIND), name, f"{by(part.shape)}\n{size}", color


def details(layer: nn.Module) -> str:
    """Return what tells a layer from others of its kind, beyond its output's shape."""
    words = []
    kernel, stride, rate = (getattr(layer, name, None) for name in ("kernel_size", "stride", "p"))
    if kernel is not None:
        words.append(by(kernel if isinstance(kernel, tuple) else (kernel, kernel)))
        if stride not in (None, 1, (1, 1), kernel):
            words.append(f"/{stride[0] if isinstance(stride, tuple) else stride}")
    if isinstance(rate, float):
        words.append(f"{rate:g}")
    return " ".join(words)


def by(shape: tuple[int, ...] | None) -> str:
    """Return sizes as `32 x 14 x 14`."""
    return "no tensor" if shape is None else " x ".join(map(str, shape))


def draw_card(axes: Axes, left: float, top: float, heading: str, name: str, facts: str, color: str) -> None:
    width, height = CARD
    shape, _, size = facts.partition("\n")
    axes.add_patch(
        FancyBboxPatch(
            (left + 0.05, top + 0.05),
            width - 0.1,
            height - 0.1,
            boxstyle="round,pad=0.05",
            facecolor=color,
            edgecolor=LINE,
            linewidth=0.8,
            clip_on=False,
        )
    )
    axes.text(left + 0.08, top + 0.16, heading, fontsize=9.5, weight="bold", va="center")
    if len(name) > LONGEST_NAME:
        name = f"…{name[1 - LONGEST_NAME :]}"
    axes.text(left + 0.08, top + 0.335, name, fontsize=8, color=SOFT, va="center")
    axes.text(left + 0.08, top + 0.5, shape, fontsize=8.5, va="center")
    axes.text(left + width - 0.08, top + 0.5, size, fontsize=8.5, va="center", ha="right")


def draw_arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], direct: bool) -> None:
    """Draw from the foot of one card to the head of the next, through the gap where that begins a new column."""
    middle = CARD[0] / 2
    (left, top), (right, head) = (start[0] + middle, start[1] + CARD[1]), (end[0] + middle, end[1])
    points = [(left, top), (right, head)]
    if left != right:
        gap = end[0] - GAP[0] / 2
        points = [
            (left, top),
            (left, top + GAP[1] / 2),
            (gap, top + GAP[1] / 2),
            (gap, -GAP[1] / 2),
            (right, -GAP[1] / 2),
            (right, 0),
        ]
    horizontal, vertical = zip(*points, strict=True)
    axes.plot(horizontal, vertical, color=LINE, lw=1.2, ls="-" if direct else ":", clip_on=False)
    axes.plot(right, head - 0.035, marker="v", color=LINE, ms=5, clip_on=False)
