"""Seconds of an optimizer step: Adam with Keras' epsilon beside torch's own, both fused, on one network's parameters.

    python -m benchmarks adam_step [--model deep_cnn] [--steps 500] [--threads 1]

Both step along the same gradients, drawn once, on parameters of their own, and take turns step by step (who is first
changes too), so that a noisy machine disturbs both alike. Printed: median and minimum of each, and their ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from cnnlab import process
from cnnlab.descent import optimizer_maker
from cnnlab.job import compose_job
from cnnlab.plan import make_plan, read_training
from cnnlab.settings.read import resolve

PLACEMENTS = ("torch", "keras")
WARM_UP = 20  # steps that are not counted


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="deep_cnn")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)


def measure(options: argparse.Namespace) -> dict:
    process.begin(options.threads)
    optimizers = {}
    for placement in PLACEMENTS:
        config = compose_job("train", [f"model={options.model}", f"optimizer.epsilon_placement={placement}"]).config
        settings = read_training(resolve(config))
        network = make_plan(settings, Path("unused")).classifier.network
        weights = [nn.Parameter(weight.detach().clone()) for weight in network.parameters()]
        torch.manual_seed(0)
        for weight in weights:
            weight.grad = torch.randn_like(weight) * 1e-3
        optimizers[placement] = optimizer_maker(settings.optimizer)(weights)
    seconds: dict[str, list[float]] = {placement: [] for placement in PLACEMENTS}
    for turn in range(WARM_UP + options.steps):
        for placement in PLACEMENTS if turn % 2 else PLACEMENTS[::-1]:
            started = time.perf_counter()
            optimizers[placement].step()
            if turn >= WARM_UP:
                seconds[placement].append(time.perf_counter() - started)
    sizes = [weight.numel() for weight in optimizers["keras"].param_groups[0]["params"]]
    told_of = {"model": options.model, "parameters": sum(sizes), "tensors": len(sizes)}
    told_of |= {"steps": options.steps, "threads": options.threads}
    measures = {"median": statistics.median, "minimum": min}
    return told_of | {name: {it: of(values) for it, values in seconds.items()} for name, of in measures.items()}


def told(found: dict) -> Iterator[str]:
    yield (
        f"Microseconds of a step of fused Adam over `{found['model']}` ({found['parameters']:,} parameters in "
        f"{found['tensors']} tensors), by turns, {found['steps']} steps, {found['threads']} threads:"
    )
    yield ""
    for name in ("median", "minimum"):
        torchs, kerass = (1e6 * found[name][placement] for placement in PLACEMENTS)
        yield f"- {name}: torch's own {torchs:.1f}, with Keras' epsilon {kerass:.1f}, ratio {kerass / torchs:.3f}"


summary = told
