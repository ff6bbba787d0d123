"""The files that a trained classifier is exported to: how each is written, and read again without cnnlab."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from cnnlab.durable import write
from cnnlab.errors import UsageError, one_line
from cnnlab.portable import INPUT, OUTPUT, Portable, program_of, write_program

Answer = Callable[[Tensor], Tensor]  # pixels uint8 [N, C, H, W] to probabilities [N, classes]
Facts = Mapping[str, object]


@dataclass(frozen=True)
class Format:
    """One kind of file.

    `write` writes it, `read` returns what answers from it, `use` are lines of Python that do so, to be filled in.
    `packages` are those of the extra `export` that it needs.
    """

    extensions: tuple[str, ...]
    write: Callable[[Portable, tuple[int, ...], Facts, Path], None]
    read: Callable[[Path, Portable], Answer]
    use: tuple[str, ...]
    packages: tuple[str, ...] = ()


def write_onnx(model: Portable, input_shape: tuple[int, ...], facts: Facts, file: Path) -> None:
    """Write an ONNX file with its weights inside; raises UsageError for a network that ONNX has no words for."""
    program = program_of(model, torch.uint8, input_shape)
    try:
        written = torch.onnx.export(program, input_names=[INPUT], output_names=[OUTPUT], verbose=False)
    except torch.onnx.OnnxExporterError as error:
        raise UsageError(f"this network cannot be written as ONNX: {one_line(error)}") from error
    assert written is not None
    written.model.metadata_props.update({name: json.dumps(value) for name, value in facts.items()})
    written.save(file, external_data=False)


def read_onnx(file: Path, model: Portable) -> Answer:
    """Return what answers from an ONNX file, through ONNX Runtime on the CPU."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)  # errors only: it warns of graphics cards that it does not find
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])


def write_torch_export(model: Portable, input_shape: tuple[int, ...], facts: Facts, file: Path) -> None:
    """Write a .pt2 file, torch's own graph."""
    write_program(program_of(model, torch.uint8, input_shape), facts, file)


def read_torch_export(file: Path, model: Portable) -> Answer:
    """Return what answers from a .pt2 file."""
    return torch.export.load(str(file)).module()


def write_state_dict(model: Portable, input_shape: tuple[int, ...], facts: Facts, file: Path) -> None:
    """Write the network's weights, plain tensors under its own names."""
    # Cloned: a view would be written with all the memory behind it.
    weights = {name: values.detach().contiguous().clone() for name, values in model.network.state_dict().items()}
    write(file, partial(torch.save, weights))


def read_state_dict(file: Path, model: Portable) -> Answer:
    """Return what answers with the weights of a file in a copy of the model."""
    other = copy.deepcopy(model)
    for parameter in other.network.parameters():
        parameter.data.zero_()
    other.network.load_state_dict(torch.load(file, weights_only=True))
    return other


FORMATS = {
    "onnx": Format(
        (".onnx",),
        write_onnx,
        read_onnx,
        (
            "import onnxruntime",
            "session = onnxruntime.InferenceSession({file})",
            'probabilities = session.run(None, {{"images": images}})[0]  # uint8 {shape} -> float32 [N, {classes}]',
        ),
        ("onnx", "onnxscript", "onnxruntime"),
    ),
    "torch_export": Format(
        (".pt2",),
        write_torch_export,
        read_torch_export,
        (
            "import torch",
            "model = torch.export.load({file}).module()",
            "probabilities = model(images)  # torch.uint8 {shape} -> float32 [N, {classes}]",
        ),
    ),
    "state_dict": Format(
        (".pt", ".pth"),
        write_state_dict,
        read_state_dict,
        (
            "import torch",
            "weights = torch.load({file}, weights_only=True)",
            "network.load_state_dict(weights)  # your own module with the same layers; or {train} init_from={file}",
        ),
    ),
}
