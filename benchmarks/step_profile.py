"""Where a training step's time goes: milliseconds, share, GFLOP/s and GB/s of each operator, beside the peaks.

    CNNLAB_DATA=... python -m benchmarks step_profile [--recipes deep_cnn,dnn] [--steps 15] [--threads 2]

A step is forward, cross-entropy, backward and the optimizer, as `train.py` computes them on a CPU in float32; loop and
L2 penalty are no part of it. Operators are timed one by one by torch's dispatcher, the C++ kernels where
they are called; the step as a whole is timed without. The peaks are measured, too: a product of two 2048x2048 matrices,
and a copy of 256 MiB. Bytes are those of an operator's tensors, in and out, each counted once.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from benchmarks.epoch_tables import header, row
from benchmarks.epochs import count, names_of
from benchmarks.recipes import RECIPES
from cnnlab import process
from cnnlab.descent import optimizer_maker
from cnnlab.job import compose_job
from cnnlab.kernels import blocks
from cnnlab.models.compiling import use_kernels
from cnnlab.plan import make_plan, read_training
from cnnlab.settings.read import resolve

WARM_UP = 3
SHOWN = 12  # operators of a table; the others are one line
PEAK = 2048  # rows and columns of the matrices whose product tells the machine's peak
COPIED = 2**28  # bytes


class Watch(TorchDispatchMode):
    """Adds up what each operator takes: seconds, calls, floating point operations and bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, list[float]] = defaultdict(lambda: [0.0, 0, 0, 0])

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        started = time.perf_counter()
        result = func(*args, **kwargs)
        seconds = time.perf_counter() - started
        formula = flop_registry.get(func.overloadpacket)
        operations = formula(*args, **kwargs, out_val=result) if formula else 0
        self.add(func.overloadpacket.__name__, seconds, operations, (args, kwargs, result))
        return result

    def add(self, name: str, seconds: float, operations: int, values: object) -> None:
        tensors = {item.data_ptr(): item.nbytes for item in tree_leaves(values) if isinstance(item, Tensor)}
        for place, value in enumerate((seconds, 1, operations, sum(tensors.values()))):
            self.seen[name][place] += value

    @contextmanager
    def kernels(self) -> Iterator[None]:
        """Time the C++ kernels, which the dispatcher does not see."""
        run = blocks.run

        def timed(name: str, dtype: torch.dtype, *arguments: object) -> None:
            started = time.perf_counter()
            run(name, dtype, *arguments)
            self.add(f"kernel `{name}`", time.perf_counter() - started, 0, arguments)

        with mock.patch.object(blocks, "run", timed):
            yield


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--recipes", type=names_of(RECIPES), default=list(RECIPES), help=", ".join(RECIPES))
    parser.add_argument("--steps", type=count, default=15)
    parser.add_argument("--threads", type=count, default=process.available_cores())


def measure(options: argparse.Namespace) -> dict:
    process.begin(options.threads)
    found: dict = {"threads": options.threads, "steps": options.steps, "recipes": {}}
    for recipe in options.recipes:
        step = step_of(recipe)
        found["recipes"][recipe] = measured(step, options.steps) | peaks()
    return found


def step_of(recipe: str) -> Callable[[], None]:
    """Return a step of a recipe on its first images."""
    settings = read_training(resolve(compose_job("train", list(RECIPES[recipe].overrides)).config))
    plan = make_plan(settings, Path("unused"))
    network = plan.classifier.network.train().to(memory_format=torch.channels_last)
    use_kernels(network)
    scaling = plan.classifier.scaling
    optimizer = optimizer_maker(settings.optimizer)(list(network.parameters()))
    images, labels = (part[: settings.batch_size] for part in (plan.data.train_images, plan.data.train_labels))

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(network(scaling(images)), labels).backward()
        optimizer.step()

    return step


def measured(step: Callable[[], None], steps: int) -> dict:
    """Return the milliseconds of the whole step, and of each operator what a step takes of it; medians."""
    for _ in range(WARM_UP):
        step()
    whole = [timed(step) for _ in range(steps)]
    rounds: list[dict[str, list[float]]] = []
    for _ in range(steps):
        with Watch() as watch, watch.kernels():
            step()
        rounds.append(watch.seen)
    operators = {
        name: {
            "ms": 1e3 * statistics.median(seen[name][0] for seen in rounds),
            "calls": rounds[0][name][1],
            "flop": rounds[0][name][2],
            "bytes": rounds[0][name][3],
        }
        for name in rounds[0]
    }
    return {"ms": 1e3 * statistics.median(whole), "operators": operators}


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def peaks() -> dict[str, float]:
    """Return the GFLOP/s of a large product and the GB/s of a large copy, the best of five."""
    left, right = torch.randn(2, PEAK, PEAK)
    source = torch.ones(COPIED, dtype=torch.uint8)
    target = torch.zeros_like(source)
    product = min(timed(lambda: left @ right) for _ in range(5))
    copy = min(timed(lambda: target.copy_(source)) for _ in range(5))
    return {"peak_gflops": 2e-9 * PEAK**3 / product, "peak_gbs": 2e-9 * COPIED / copy}


def told(found: dict) -> Iterator[str]:
    for recipe, measured in found["recipes"].items():
        operators = sorted(measured["operators"].items(), key=lambda item: -item[1]["ms"])
        total = sum(values["ms"] for _, values in operators)
        yield (
            f"A step of `{recipe}`, {found['threads']} threads, medians of {found['steps']}: {measured['ms']:.3g} ms; "
            f"its operators, timed one by one, {total:.3g} ms. Peaks: {measured['peak_gflops']:.0f} GFLOP/s, "
            f"{measured['peak_gbs']:.1f} GB/s."
        )
        yield ""
        yield from header(["operator", "calls", "ms", "share", "GFLOP/s", "of the peak", "GB/s"])
        for name, it in operators[:SHOWN]:
            speed = it["flop"] / it["ms"] / 1e6 if it["ms"] else 0
            cells = [name, f"{it['calls']:.0f}", f"{it['ms']:.3g}", f"{it['ms'] / total:.0%}"]
            cells += [f"{speed:.0f}", f"{speed / measured['peak_gflops']:.0%}"] if speed else ["", ""]
            yield row([*cells, f"{it['bytes'] / it['ms'] / 1e6:.1f}"])
        rest = sum(values["ms"] for _, values in operators[SHOWN:])
        yield row(["all others", "", f"{rest:.3g}", f"{rest / total:.0%}", "", "", ""])
        yield ""
