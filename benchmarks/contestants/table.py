"""Who takes part: a name in tables, what it is, and how its process is started."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.contestants.keras_environment import keras_python
from benchmarks.machine import has_bfloat16

BARE, CNNLAB = "benchmarks.contestants.bare", "cnnlab"


@dataclass(frozen=True)
class Contestant:
    """`module` is run with `arguments` after it; cnnlab's own is train.py, with overrides."""

    title: str
    about: str
    module: str
    arguments: tuple[str, ...] = ()
    python: Callable[[], str] = lambda: sys.executable
    devices: tuple[str, ...] = ("cpu", "gpu")
    bfloat16: bool = False


CONTESTANTS = {
    "keras": Contestant(
        "Keras",
        "`fit` of Keras on TensorFlow over arrays in memory",
        "benchmarks.contestants.keras_fit",
        python=keras_python,
        devices=("cpu",),
    ),
    "pytorch": Contestant("PyTorch loop", "a bare loop over tensors in memory, Adam", BARE),
    "pytorch_tuned": Contestant("PyTorch loop, tuned", "the same, channels_last, fused Adam", BARE, ("--tuned",)),
    "pytorch_bf16": Contestant(
        "PyTorch loop, tuned, bf16",
        "the same with bfloat16 autocast",
        BARE,
        ("--tuned", "--bfloat16"),
        bfloat16=True,
    ),
    "pytorch_compiled": Contestant(
        "PyTorch loop, tuned, bf16, compiled",
        "the same with torch.compile",
        BARE,
        ("--tuned", "--bfloat16", "--compile"),
        devices=("gpu",),
        bfloat16=True,
    ),
    "lightning": Contestant(
        "Lightning, DataLoader",
        "Lightning with per-image transforms in two worker processes, a CSV logger, checkpoints",
        "benchmarks.contestants.lightning_loader",
    ),
    "cnnlab_plain": Contestant(
        "cnnlab, operator by operator",
        "`train.py trainer.compile=none`, float32",
        CNNLAB,
        ("trainer.precision=32-true", "trainer.compile=none"),
    ),
    "cnnlab_inductor": Contestant(
        "cnnlab, inductor, bf16",
        "`train.py trainer.compile=inductor trainer.precision=bf16-mixed`",
        CNNLAB,
        ("trainer.precision=bf16-mixed", "trainer.compile=inductor"),
        devices=("gpu",),
        bfloat16=True,
    ),
    "cnnlab": Contestant(
        "cnnlab", "`train.py`, float32, MLflow and checkpoints on", CNNLAB, ("trainer.precision=32-true",)
    ),
    "cnnlab_bf16": Contestant(
        "cnnlab, bf16",
        "`train.py trainer.precision=bf16-mixed`",
        CNNLAB,
        ("trainer.precision=bf16-mixed",),
        bfloat16=True,
    ),
}


def taking_part(names: list[str] | None, device: str) -> tuple[list[str], dict[str, str]]:
    """Return who takes part on a device, of those asked for or of all; and of those who do not, why."""
    asked = [name for name in CONTESTANTS if names is None or name in names]
    left_out = {name: f"its place is not the {device}" for name in asked if device not in CONTESTANTS[name].devices}
    if names is None and not has_bfloat16(device):
        slow = [name for name in asked if CONTESTANTS[name].bfloat16 and name not in left_out]
        left_out |= dict.fromkeys(slow, "this device has no bfloat16 in hardware")
    return [name for name in asked if name not in left_out], left_out
