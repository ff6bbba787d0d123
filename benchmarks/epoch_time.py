"""Epoch time of a cnnlab run, tracking on, beside a bare PyTorch loop over the same tensors.

    CNNLAB_DATA=... python benchmarks/epoch_time.py [--model dnn] [--epochs 8] [--dataset mnist]

Both train the same network with the same optimizer on the same split; after each epoch both evaluate the validation
split. They take turns, one training of `--epochs` each, `--rounds` times, so that a noisy machine disturbs both alike.
Printed: the median seconds of an epoch, without the first one of each training, and the ratio of the medians. The bare
loop is spared what it would pay in a process of its own where torch's CUDA build finds no driver (see
`cnnlab.process.begin`).
"""

# ruff: noqa: E402
from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from cnnlab import process

process.set_environment()  # first, as in train.py: it tells OpenMP how to wait, before torch is loaded

# isort: split
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir

from cnnlab.plan import Plan, make_plan, read_training
from cnnlab.settings.commands import Training
from cnnlab.settings.read import resolve
from cnnlab.tracking.run import open_run
from cnnlab.training import fit

CONF = Path(__file__).resolve().parents[1] / "conf"


def bare_epochs(plan: Plan, epochs: int, fused: bool) -> list[float]:
    """Train as a short script would: shuffle, gather, scale, step; return the seconds of each epoch."""
    network, batches = plan.classifier.network, plan.data_module
    images, labels = (tensor[batches.train_index] for tensor in (plan.data.train_images, plan.data.train_labels))
    held_out = tuple(tensor[batches.validation_index] for tensor in (plan.data.train_images, plan.data.train_labels))
    optimizer = torch.optim.Adam(network.parameters(), eps=1e-7, fused=fused)
    seconds = []
    for _ in range(epochs):
        started = time.perf_counter()
        network.train()
        for index in torch.randperm(len(labels)).split(batches.batch_size):
            loss = F.cross_entropy(network(images[index].float() / 255), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        network.eval()
        correct = 0
        with torch.no_grad():
            for part, truth in zip(held_out[0].split(1000), held_out[1].split(1000), strict=True):
                correct += (network(part.float() / 255).argmax(1) == truth).sum().item()
        seconds.append(time.perf_counter() - started)
    return seconds


def seeded_plan(settings: Training, folder: Path) -> Plan:
    process.seed(settings.seed)
    return make_plan(settings, folder)


def our_epochs(plan: Plan) -> list[float]:
    """Train as train.py does, MLflow and checkpoints included; return the seconds from each epoch's end to the next."""
    ends: list[float] = []
    with open_run(plan.settings.tracking, {}) as run:
        fit(plan, [run.log_metrics, lambda epoch, metrics: ends.append(time.perf_counter())])
    return [end - start for start, end in pairwise(ends)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="dnn")
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--regularization", default="none")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    process.begin()
    times: dict[str, list[float]] = {"bare loop": [], "bare loop, fused Adam": [], "cnnlab": []}
    with tempfile.TemporaryDirectory() as folder, initialize_config_dir(str(CONF), version_base="1.3"):
        overrides = [f"{name}={getattr(arguments, name)}" for name in ("model", "dataset", "regularization")]
        overrides += [f"trainer.max_epochs={arguments.epochs}", "callbacks=best_checkpoint"]
        overrides += [f"tracking.uri=sqlite:///{folder}/mlflow.db"]
        settings = read_training(resolve(compose("train", overrides)))
        for turn in range(arguments.rounds):
            for name, fused in (("bare loop", False), ("bare loop, fused Adam", True)):
                times[name] += bare_epochs(seeded_plan(settings, Path(folder)), arguments.epochs, fused)[1:]
            plan = seeded_plan(settings, Path(folder, str(turn)))
            times["cnnlab"] += our_epochs(plan)
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{' '.join(overrides[:3])}, batch size {settings.batch_size}, n = {len(times['cnnlab'])} epochs each")
    ours = statistics.median(times["cnnlab"])
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print(f"{name:<22} {median:7.3f} s an epoch; cnnlab takes {ours / median:4.2f} x")


if __name__ == "__main__":
    main()
