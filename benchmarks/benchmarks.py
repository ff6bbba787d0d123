"""All there is to measure.

Each module has `add_options`, `measure` and `told`; `summary` for docs/measured.md, `headline` for README.md, `joined`
where a part that was measured again takes its place among the others.
"""

from __future__ import annotations

from types import ModuleType

from benchmarks import (
    adam_step,
    epochs,
    metrics_time,
    speedrun,
    start,
    step_profile,
    streaming,
    sweep_mnist,
    sweep_overhead,
    sweep_workers,
    tracking_time,
    verdict_errors,
)

# What `make bench` runs; in this order docs/measured.md tells of it.
USUAL: dict[str, ModuleType] = {
    "epochs": epochs,
    "speedrun": speedrun,
    "start": start,
    "tracking_time": tracking_time,
    "metrics_time": metrics_time,
    "adam_step": adam_step,
    "step_profile": step_profile,
    "sweep_overhead": sweep_overhead,
    "sweep_workers": sweep_workers,
}
# And what takes hours, or tells of no speed.
BENCHMARKS = USUAL | {"streaming": streaming, "sweep_mnist": sweep_mnist, "verdict_errors": verdict_errors}
