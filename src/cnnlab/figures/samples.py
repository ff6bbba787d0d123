"""Images with what the network says about them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.patches import Patch
from torch import Tensor

from cnnlab.data.rows import Images
from cnnlab.figures.canvas import QUIET, RIGHT, WRONG, new_figure, save, show_image, width_of
from cnnlab.metrics import Predictions

MOST_BARS = 10  # classes beside one image; of more, the most probable ones


def draw_mistakes(folder: Path, images: Images, predictions: Predictions, names: Sequence[str], count: int) -> Path:
    """Draw the wrong predictions the network was surest of, each with truth, prediction and probability.

    `images` is the whole split, uint8 [N, C, H, W], in the order of the predictions.
    """
    positions = predictions.most_confident_mistakes(count).tolist()
    path = folder / "mistakes.png"
    if not positions:
        figure = new_figure(5, 1.2)
        figure.text(0.5, 0.5, f"no mistake among {len(images):,} images", ha="center", va="center", fontsize=13)
        return save(figure, path)
    columns = min(6, len(positions))
    rows = -(-len(positions) // columns)
    width = 1.9 if max(map(width_of, names)) <= 14 else 2.4
    figure = new_figure(width * columns, 2.15 * rows + 0.5)
    grid = figure.subplots(rows, columns, squeeze=False, gridspec_kw={"hspace": 0.45, "wspace": 0.15})
    for axes in grid.flat[len(positions) :]:
        axes.set_visible(False)
    for axes, position in zip(grid.flat, positions, strict=False):
        show_image(axes, images[position])
        told = int(predictions.predicted[position])
        axes.set_title(f"true: {names[int(predictions.labels[position])]}", fontsize=9, pad=3)
        answer = f"{names[told]} ({predictions.probabilities[position, told]:.1%})"
        axes.set_xlabel(answer, fontsize=9, color=WRONG, labelpad=3)
    mistakes = int((predictions.predicted != predictions.labels).sum())
    title = f"the {len(positions)} most confident of {mistakes:,} mistakes: prediction and probability below each image"
    figure.suptitle(
        title if columns > 3 else title.replace(": ", ":\n"), y=0.88 + 0.4 / figure.get_figheight(), va="bottom"
    )
    return save(figure, path)


def draw_samples(folder: Path, images: Images, predictions: Predictions, names: Sequence[str], count: int) -> Path:
    """Draw one image of each class (of `count` classes) with its probabilities as bars."""
    positions = predictions.one_of_each_class(count).tolist()
    titles = [f"true: {names[int(predictions.labels[position])]}" for position in positions]
    truths = [int(predictions.labels[position]) for position in positions]
    chosen = images[positions], predictions.probabilities[positions]
    return draw_probabilities(folder / "samples.png", *chosen, names, titles, truths)


def draw_probabilities(
    path: Path,
    images: Tensor,
    probabilities: Tensor,
    names: Sequence[str],
    titles: Sequence[str],
    truths: Sequence[int] | None = None,
) -> Path:
    """Draw each image, uint8 [N, C, H, W], beside its class probabilities [N, classes].

    Where the truth is known its bar is green, and a wrong prediction's orange; otherwise the prediction is green.
    """
    bars = min(MOST_BARS, len(names))
    pairs = 2 if len(images) > 1 else 1
    rows = -(-len(images) // pairs)
    # Inches: the image, room for the names, the bars, room for their numbers.
    beside, above = 0.085 * max(map(width_of, names)), 0.08 * max(map(width_of, titles))
    widths = [1.6, 0.55 + beside + max(0.0, above - 1.5), 2.1, 0.8]
    height = max(1.8, 0.9 + 0.19 * bars)
    figure = new_figure(sum(widths) * pairs, height * rows)
    ratios = {"width_ratios": widths * pairs, "wspace": 0, "hspace": 0.32}
    grid = figure.add_gridspec(rows, 4 * pairs, **ratios)
    for place, (image, row, title) in enumerate(zip(images, probabilities, titles, strict=True)):
        picture, chart = figure.add_subplot(grid[4 * place]), figure.add_subplot(grid[4 * place + 2])
        show_image(picture, image)
        picture.set_title(title, fontsize=9, loc="left")
        _bars(chart, row, names, bars, None if truths is None else truths[place])
    meanings = {RIGHT: "predicted"} if truths is None else {RIGHT: "true class", WRONG: "predicted, but wrong"}
    handles = [Patch(color=color, label=meaning) for color, meaning in (meanings | {QUIET: "another class"}).items()]
    top = 0.88 + 0.28 / figure.get_figheight()  # the subplots end at .88
    figure.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.115, top), ncols=3, frameon=False, fontsize=9)
    return save(figure, path)


def _bars(axes: Axes, probabilities: Tensor, names: Sequence[str], bars: int, truth: int | None) -> None:
    shown = probabilities.argsort(descending=True, stable=True)[:bars].tolist()
    if len(names) <= MOST_BARS:
        shown = sorted(shown)  # few classes keep their own order, so that charts can be compared
    predicted = int(probabilities.argmax())
    colors = [RIGHT if label == (predicted if truth is None else truth) else QUIET for label in shown]
    if truth is not None and predicted != truth and predicted in shown:
        colors[shown.index(predicted)] = WRONG
    values = [float(probabilities[label]) for label in shown]
    axes.barh(range(len(shown)), values, color=colors, height=0.75)
    axes.set_yticks(range(len(shown)), [names[label] for label in shown], fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"], fontsize=8)
    for place, value in enumerate(values):
        if value >= 0.005:
            axes.text(min(value, 0.99) + 0.02, place, f"{value:.1%}", va="center", fontsize=8, clip_on=False)
