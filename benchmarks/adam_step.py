"""Seconds of an optimizer step: Adam with Keras' epsilon beside torch's own, both fused, on one network's parameters.

    python benchmarks/adam_step.py [--model deep_cnn] [--steps 500] [--threads 1]

Both step along the same gradients, drawn once, on parameters of their own, and take turns step by step (who is first
changes too), so that a noisy machine disturbs both alike. Printed: median and minimum of each, and their ratios.
"""

# ruff: noqa: E402
from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

from cnnlab import process

process.set_environment()  # first, as in train.py: it tells OpenMP how to wait, before torch is loaded

# isort: split
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from cnnlab.descent import optimizer_maker
from cnnlab.plan import make_plan, read_training
from cnnlab.settings.read import resolve

CONF = Path(__file__).resolve().parents[1] / "conf"
PLACEMENTS = ("torch", "keras")
WARM_UP = 20  # steps that are not counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="deep_cnn")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    process.begin()
    torch.set_num_threads(options.threads)
    optimizers = {}
    for placement in PLACEMENTS:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("train", [f"model={options.model}", f"optimizer.epsilon_placement={placement}"])
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
    print(f"{options.model}: {sum(sizes):,} parameters in {len(sizes)} tensors, {options.steps} steps, ", end="")
    print(f"{options.threads} threads, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}")
    for name, of in (("median", statistics.median), ("minimum", min)):
        torchs, kerass = (1e6 * of(seconds[placement]) for placement in PLACEMENTS)
        print(f"{name}: torch {torchs:.1f} us, keras {kerass:.1f} us, ratio {kerass / torchs:.3f}")


if __name__ == "__main__":
    main()
