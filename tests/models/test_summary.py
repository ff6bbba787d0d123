"""The layer table: what it shows, and that it leaves no trace."""

import io

import torch
from rich.console import Console
from torch import nn

from cnnlab.models.summary import layer_table


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 10)
    )


def test_rows_hold_leaf_layers_shapes_and_counts():
    model = network()
    model[3].bias.requires_grad = False
    table = layer_table(model, (1, 8, 8))
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    assert rows == [
        ("0.0 (Conv2d)", "(None, 4, 6, 6)", "40"),
        ("0.1 (BatchNorm2d)", "(None, 4, 6, 6)", "8"),
        ("1 (Dropout)", "(None, 4, 6, 6)", "0"),
        ("2 (Flatten)", "(None, 144)", "0"),
        ("3 (Linear)", "(None, 10)", "1,450"),
        ("Total", "", "1,498"),
        ("Trainable", "", "1,488"),
    ]


def test_leaves_modes_statistics_random_state_and_hooks_as_they_were():
    model = network()
    model[0][1].eval()
    modes = [module.training for module in model.modules()]
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    layer_table(model, (1, 8, 8))
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_fits_a_plain_file_of_80_columns():
    file = io.TextIOWrapper(io.BytesIO(), "ascii")
    Console(file=file, width=80).print(layer_table(network(), (1, 8, 8)))
    file.seek(0)
    lines = file.read().splitlines()
    assert lines[0].split(" | ") == ["Layer (type)     ", "Output shape   ", "Parameters"]
    assert len(lines) == 10 and len({len(line) for line in lines}) == 1
