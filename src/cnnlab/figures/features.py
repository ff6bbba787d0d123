"""What a network has learned to see: its first layer's filters, and how its layers answer to one image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cnnlab.figures.canvas import bare, new_figure, save, show_image, tiles
from cnnlab.models.layers import ACTIVATIONS
from cnnlab.models.summary import evaluating

MOST_FILTERS = 64
MOST_UNITS = 8  # of a dense layer
MOST_MAPS = 16  # of one layer
MOST_LAYERS = 12


def draw_filters(folder: Path, network: nn.Module, input_shape: tuple[int, int, int]) -> Path | None:
    """Draw the kernels of the first layer; None where its weights are no images of the input's channels.

    Of a dense layer, whose units have a weight a pixel and mostly keep the noise they began with or fade away, the few
    with the largest weights: they have learned most.
    """
    kernels = _first_kernels(network, input_shape)
    if kernels is None:
        return None
    shown, what = kernels[:MOST_FILTERS], f"{min(len(kernels), MOST_FILTERS)} of {len(kernels)} filters"
    if dense := tuple(kernels.shape[2:]) == tuple(input_shape[1:]):
        sizes = kernels.square().sum((1, 2, 3))
        shown = kernels[sizes.argsort(descending=True, stable=True)[:MOST_UNITS]]
        what = f"the {len(shown)} of {len(kernels)} units with the largest weights"
    columns = min(MOST_UNITS // 2 if dense else 8, len(shown))
    if shown.shape[1] == 3:  # colour: every filter stretched to its own range
        low, high = shown.amin((1, 2, 3), keepdim=True), shown.amax((1, 2, 3), keepdim=True)
        sheet = tiles(((shown - low) / (high - low).clamp(min=1e-12)).permute(0, 2, 3, 1).numpy(), columns, 1.0)
        limit, how = None, "each stretched to its own range"
    else:
        weights = shown.mean(dim=1).numpy()
        limit = float(np.abs(weights).max()) or 1.0
        sheet, how = tiles(weights, columns, np.nan), f"red above 0, blue below, full colour at ±{limit:.2g}"
    rows = -(-len(shown) // columns)
    side = 1.6 if dense else 1.0
    figure = new_figure(side * columns, side * rows + 0.5)
    axes = figure.subplots()
    if limit is None:
        axes.imshow(sheet, interpolation="nearest")
    else:
        axes.imshow(sheet, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    bare(axes)
    axes.set_title(f"first layer: {what}\n{how}", fontsize=9)
    return save(figure, folder / "filters.png")


def draw_feature_maps(folder: Path, scaling: nn.Module, network: nn.Module, image: Tensor, title: str) -> Path | None:
    """Draw `image`, uint8 [C, H, W], and below it how each activation layer answers to it; None where there is none.

    A convolution answers with maps, each stretched to the layer's range; a dense layer with one strip of its units.
    """
    answers = _answers(scaling, network, image)
    if not answers:
        return None
    if len(answers) > MOST_LAYERS:
        chosen = np.linspace(0, len(answers) - 1, MOST_LAYERS).round().astype(int)
        title = f"{title}\n{MOST_LAYERS} of {len(answers)} activation layers"
        answers = {name: answer for place, (name, answer) in enumerate(answers.items()) if place in chosen}
    heights = [1.1 if answer.dim() == 3 else 0.35 for answer in answers.values()]
    figure = new_figure(11, 1.2 * sum(heights) + 1.9)
    grid = figure.subplots(len(heights) + 1, 1, height_ratios=[1.4, *heights], gridspec_kw={"hspace": 0.5})
    show_image(grid[0], image)
    grid[0].set_title(title, fontsize=10)
    for axes, (name, answer) in zip(grid[1:], answers.items(), strict=True):
        if answer.dim() == 3:
            shown = answer[:MOST_MAPS]
            sheet = tiles(shown.numpy(), MOST_MAPS if len(answer) >= MOST_MAPS else len(answer), np.nan)
            label = f"{name}: {len(shown)} of {len(answer)} maps of {answer.shape[1]}x{answer.shape[2]}"
            axes.imshow(sheet, cmap="viridis")
        else:
            axes.imshow(answer[None].numpy(), cmap="viridis", aspect="auto")
            label = f"{name}: {len(answer)} units"
        axes.set_title(label, fontsize=9, loc="left", pad=3)
        bare(axes)
    return save(figure, folder / "feature_maps.png")


def _first_kernels(network: nn.Module, input_shape: tuple[int, int, int]) -> Tensor | None:
    """Return the first layer's weights as images [filters, C, height, width]."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            return layer.weight.detach().float().cpu()
        if isinstance(layer, nn.Linear):
            channels, height, width = input_shape
            fits = layer.in_features == channels * height * width
            return layer.weight.detach().float().cpu().view(-1, channels, height, width) if fits else None
    return None


def _answers(scaling: nn.Module, network: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """Return the outputs of the activation layers for one image: [maps, height, width] or [units]."""
    answers: dict[str, Tensor] = {}
    kinds = tuple(ACTIVATIONS.values())
    handles = [
        layer.register_forward_hook(
            lambda layer, inputs, output, name=name: answers.update({name: output[0].detach().float().cpu().clone()})
        )
        for name, layer in network.named_modules()
        if isinstance(layer, kinds)
    ]
    try:
        with evaluating(network), torch.no_grad():
            device = next(network.parameters()).device
            network(scaling(image[None].to(device)))
    finally:
        for handle in handles:
            handle.remove()
    return {name.removeprefix("layers."): answer for name, answer in answers.items() if answer.dim() in (1, 3)}
