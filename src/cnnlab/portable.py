"""A classifier that runs without cnnlab: scaling, network and softmax in one, and what one has to know about it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from cnnlab import process
from cnnlab.durable import write
from cnnlab.errors import UsageError, one_line

FACTS = "cnnlab.json"  # beside the program in a .pt2 file
INPUT, OUTPUT = "images", "probabilities"


class Portable(nn.Module):
    """Pixels 0..255 [N, C, H, W], uint8 or float32, to probabilities [N, classes]; dropout is off."""

    def __init__(self, scaling: nn.Module, network: nn.Module):
        super().__init__()
        self.scaling = scaling
        self.network = network
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.network(self.scaling(images)).softmax(dim=1)


def facts_about(class_names: Sequence[str], input_shape: Sequence[int], scaling: nn.Module) -> dict[str, object]:
    """Return what one has to know to use the model elsewhere, in plain values."""
    buffers = {name: values.flatten().tolist() for name, values in scaling.named_buffers()}
    return {
        "class_names": list(class_names),
        "input_shape": list(input_shape),
        "pixels": "0..255, [N, C, H, W]" + (", red green blue" if input_shape[0] == 3 else ""),
        "scaling": buffers | {"formula": "(pixels - mean) * inverse_std, each channel"},
    }


def program_of(model: Portable, dtype: torch.dtype, input_shape: Sequence[int]) -> torch.export.ExportedProgram:
    """Return the model as torch's own graph, for any number of images of `input_shape` (C, H, W).

    Raises UsageError for a network whose steps cannot be written down as a graph.
    """
    example = torch.zeros(2, *input_shape, dtype=dtype)  # of one image the exporter would make a constant
    try:
        with process.silent_stderr():
            return torch.export.export(model, (example,), dynamic_shapes={INPUT: {0: torch.export.Dim("batch")}})
    except Exception as error:  # torch's tracer raises whatever the network's code does, and a dozen of its own
        raise UsageError(f"this network cannot be exported as a graph: {one_line(error)}") from error


def write_program(program: torch.export.ExportedProgram, facts: Mapping[str, object], file: Path) -> None:
    """Write a graph as a .pt2 file that carries the facts."""
    write(file, lambda content: torch.export.save(program, content, extra_files={FACTS: json.dumps(facts)}))
