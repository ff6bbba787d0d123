"""A table of a network's layers, as Keras prints it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from rich import box
from rich.table import Table
from torch import nn

from cnnlab.models import layer_name, parameter_count


def layer_table(network: nn.Module, input_shape: tuple[int, ...]) -> Table:
    """Return the layers of `network` in the order they run: name and type, output shape, number of parameters.

    One forward pass over a blank image of `input_shape` (C, H, W) finds the shapes. It leaves the network, its
    train or eval mode, its normalization statistics and the random state as they were.
    """
    table = Table(box=box.HORIZONTALS, pad_edge=False, show_edge=False)
    table.add_column("Layer (type)", overflow="fold")
    table.add_column("Output shape", no_wrap=True)
    table.add_column("Parameters", justify="right", no_wrap=True)
    for name, layer, shape in executed_layers(network, input_shape):
        size = ", ".join(["None", *map(str, shape[1:])])
        table.add_row(f"{name} ({type(layer).__name__})", f"({size})", f"{parameter_count(layer):,}")
    table.add_section()
    table.add_row("Total", "", f"{parameter_count(network):,}")
    table.add_row("Trainable", "", f"{parameter_count(network, trainable=True):,}")
    return table


def executed_layers(network: nn.Module, input_shape: tuple[int, ...]) -> list[tuple[str, nn.Module, torch.Size]]:
    """Return (name, layer, output shape with batch) of each leaf layer, in the order one forward pass meets them."""
    leaves = {layer: layer_name(name) for name, layer in network.named_modules() if not list(layer.children())}
    met: dict[nn.Module, torch.Size] = {}

    def remember(layer: nn.Module, inputs: tuple[object, ...], output: torch.Tensor) -> None:
        met[layer] = output.shape

    handles = [layer.register_forward_hook(remember) for layer in leaves]
    try:
        # Evaluation mode: no dropout mask is drawn and no batch statistic is taken.
        with evaluating(network), torch.no_grad():
            weights = next(network.parameters())
            network(torch.zeros(1, *input_shape, dtype=weights.dtype, device=weights.device))
    finally:
        for handle in handles:
            handle.remove()
    return [(leaves[layer], layer, shape) for layer, shape in met.items()]


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put `network` in evaluation mode, and afterwards every part of it back in the mode it had."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
