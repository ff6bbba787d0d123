"""Where and with what something was measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from cnnlab.process import available_cores
from cnnlab.tracking.provenance import processor

ROOT = Path(__file__).resolve().parents[1]
# The instructions that decide how fast a network trains.
INSTRUCTIONS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve")
PACKAGES = ("torch", "torchvision", "pytorch-lightning", "mlflow")


def machine() -> dict[str, object]:
    """Return what a reader needs to compare figures: processor, instructions, GPU, versions, load and date."""
    import torch

    flags = instructions()
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "processor": processor(),
        "cores": available_cores(),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES if find_spec(name.replace("-", "_"))},
    }


def about(found: Mapping) -> str:
    """Return the line that says where and how something was measured."""
    where = found["machine"]
    device = (
        where["gpu"] if found.get("device") == "gpu" else f"{where['processor']} ({', '.join(where['instructions'])})"
    )
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    return (
        f"`{found['command']}`, {where['date']}: {device}; Python {where['python']}, {versions}; load {where['load']}."
    )


def instructions() -> frozenset[str]:
    """Return the flags that the processor tells of itself, as Linux writes them; none elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return frozenset(word for line in lines if line.startswith(("flags", "Features")) for word in line.split())


def has_bfloat16(device: str) -> bool:
    """Return whether the device multiplies bfloat16 in hardware; elsewhere it is slower than float32."""
    import torch

    if device == "gpu":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(instructions() & {"avx512_bf16", "amx_bf16", "bf16"})
