"""All there is to measure; each module has `add_options`, `measure`, `told` and, for README.md, `summary`."""

from __future__ import annotations

from types import ModuleType

from benchmarks import epochs, metrics_time, streaming

BENCHMARKS: dict[str, ModuleType] = {"epochs": epochs, "metrics_time": metrics_time, "streaming": streaming}
USUAL = ("epochs", "metrics_time")  # what `make bench` runs
