"""What `auto` becomes: the precision and the way to compute a step that are fastest for this network here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from cnnlab import calibration, process
from cnnlab.data.images import ImageData
from cnnlab.errors import UsageError
from cnnlab.kernels.build import NotBuilt, library
from cnnlab.models.compiling import knows
from cnnlab.settings.base import Own, digest
from cnnlab.settings.commands import Trainer, Training
from cnnlab.settings.model import TorchVision
from cnnlab.step_times import measure
from cnnlab.tracking.provenance import processor

SINGLE, HALF = "32-true", "bf16-mixed"
NUMBERS = (SINGLE, HALF, "32", "bf16-true")  # precisions whose numbers the compiled kernels know
SHORT = 0.005  # seconds of a step on a CPU, most of them Python's own
FEW = 10_000  # training images: with fewer an epoch is short anyway, and measuring takes as long
GAIN = 1.1  # so much faster a precision has to be: less is lost in the noise of a busy machine


@dataclass(frozen=True)
class Choices:
    """The settings without `auto`, and a line of why."""

    settings: Training
    lines: tuple[str, ...] = ()


def settle_precision(asked: Training, data: ImageData) -> Choices:
    """Return the settings of a training with what `trainer.precision=auto` becomes.

    It is measured once for a network, its images, its batches and a processor, and remembered, so that the same
    training is the same one the next time.
    """
    if asked.trainer.precision != "auto":
        return Choices(asked)
    try:
        precision, why = precision_for(asked, data)
    except UsageError:  # of a network that cannot be built; whoever builds it for the training says so
        return Choices(asked)
    return chosen(asked, f"precision: {precision}, {why}", precision=precision)


def settle_way(asked: Training, network: nn.Module) -> Choices:
    """Return the settings of a training with what `trainer.compile=auto` becomes of its network.

    Raises UsageError for a way to compute that is not to be had here.
    """
    if asked.trainer.compile != "auto":
        check_way(asked.trainer, network)
        return Choices(asked)
    way, why = way_for(asked, asked.trainer, network)
    return chosen(asked, f"compile: {way}, {why}" if why else "", compile=way)


def chosen(asked: Training, line: str, **values: str) -> Choices:
    """Return the settings with values in the place of the trainer's `auto`, and the line, where there is one."""
    trainer = asked.trainer.model_copy(update=values)
    return Choices(asked.model_copy(update={"trainer": trainer}), (line,) if line else ())


def became(asked: Trainer, chosen: Trainer) -> dict[str, object]:
    """Return what became of `trainer.precision=auto`, by its key: what holds for all trainings of a sweep or a side.

    Not of `trainer.compile=auto`, which becomes of each network what it can.
    """
    return {"trainer.precision": chosen.precision} if asked.precision == "auto" else {}


def on_gpu(trainer: Trainer) -> bool:
    """Return whether the training will be on an NVIDIA GPU."""
    return trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def on_cpu(trainer: Trainer) -> bool:
    """Return whether the training will be on the CPU."""
    return trainer.accelerator == "cpu" or (
        trainer.accelerator == "auto" and not torch.cuda.is_available() and not torch.backends.mps.is_available()
    )


def alone(trainer: Trainer) -> bool:
    """Return whether one device trains."""
    return str(trainer.devices) == "1" and trainer.num_nodes == 1


def has_half(trainer: Trainer) -> bool:
    """Return whether the device computes with bfloat16 numbers itself, and does not only imitate it."""
    if on_gpu(trainer):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return on_cpu(trainer) and any(
        getattr(torch.cpu, name, lambda: False)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )


def precision_for(asked: Training, data: ImageData) -> tuple[str, str]:
    """Return the faster precision and why, the same for all processes of a training."""
    where = "GPU" if on_gpu(asked.trainer) else "processor"
    if not has_half(asked.trainer):
        return SINGLE, f"since this {where} has no bfloat16 instructions"
    if len(data.train_images) < FEW:
        return SINGLE, f"since {len(data.train_images)} training images are too few for another to matter"
    if not alone(asked.trainer):  # each process would measure for itself
        return (HALF if on_gpu(asked.trainer) else SINGLE), "since several devices train; only one alone is measured"
    if isinstance(asked.model, Own | TorchVision):
        return SINGLE, "since this network is not one of cnnlab's: bf16-mixed is to be asked for"
    known = calibration.remembered(measured_key(asked, data))
    if known is None:
        device = torch.device("cuda" if on_gpu(asked.trainer) else "cpu")
        known = measure(asked, data, device)
        calibration.remember(measured_key(asked, data), known)
    single, half = known
    if not on_gpu(asked.trainer) and single < SHORT:
        return SINGLE, f"since a step takes {1e3 * single:.3g} ms only"
    times = f"a step takes {1e3 * half:.3g} ms in bf16-mixed and {1e3 * single:.3g} ms in 32-true"
    return (HALF if single > GAIN * half else SINGLE), times


def measured_key(asked: Training, data: ImageData) -> str:
    """Return the digest of what a step's time depends on."""
    facts = {
        "model": asked.model.plain(),
        "regularization": asked.regularization.plain(),
        "input": list(data.input_shape),
        "classes": data.classes,
        "batch_size": asked.batch_size,
        "compile": asked.trainer.compile,
        "threads": asked.threads or process.own_threads(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if on_gpu(asked.trainer) else processor(),
    }
    return digest(facts)


def way_for(asked: Training, trainer: Trainer, network: nn.Module) -> tuple[str, str]:
    """Return how the steps of a training are computed, and why where it is worth a line."""
    if on_cpu(trainer) and knows(network) and trainer.precision in NUMBERS:
        try:
            library()
        except NotBuilt as error:
            return "none", f"since the compiled kernels are not to be had: {error}"
        return "kernels", "first convolution and poolings in C++"
    plain = not isinstance(asked.model, Own | TorchVision) and not isinstance(asked.loss, Own)
    if on_gpu(trainer) and plain and not graph_problems(trainer):
        return "graphs", "each step is replayed as CUDA graphs"
    return "none", ""


def check_way(trainer: Trainer, network: nn.Module) -> None:
    """Raise UsageError for a way to compute that is not to be had here."""
    key = f"trainer.compile={trainer.compile!r}"
    if trainer.compile == "kernels":
        if not on_cpu(trainer):
            raise UsageError(f"{key} is for training on a CPU; allowed here: auto, none, graphs, inductor")
        if not knows(network):
            raise UsageError(
                f"{key}: no block of this network is a convolution with 16, 32, ... filters and max pooling over 2x2; "
                "allowed here: auto, none, inductor"
            )
        try:
            library()
        except NotBuilt as error:
            raise UsageError(f"{key}: {error}; trainer.compile=none trains without") from error
    if trainer.compile == "graphs" and (problems := graph_problems(trainer)):
        raise UsageError(*(f"{key}: {problem}" for problem in problems))


def graph_problems(trainer: Trainer) -> list[str]:
    """Return what forbids CUDA graphs."""
    flags: Mapping[str, object] = trainer.model_extra or {}
    problems = [] if on_gpu(trainer) else ["it is for training on an NVIDIA GPU, and there is none"]
    if not alone(trainer):
        problems.append("it is for one device")
    if flags.get("accumulate_grad_batches", 1) != 1:
        problems.append("a graph has its gradients in the same memory each time, which cannot accumulate")
    return problems
