"""A bare PyTorch loop over images in memory: plain, or with all that a good author would do.

    python -m benchmarks.contestants.bare [--tuned] [--bfloat16] [--compile]

`--tuned` is channels_last and fused Adam, `--bfloat16` autocast on top of it, `--compile` torch.compile.
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.contestants.network import build, penalty
from benchmarks.gate import Gate, task


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--tuned", "--bfloat16", "--compile"):
        parser.add_argument(name, action="store_true")
    options = parser.parse_args()
    wanted = task()
    device = torch.device("cuda" if wanted["device"] == "gpu" else "cpu")
    torch.set_num_threads(wanted["threads"])
    images = torch.from_numpy(np.load(wanted["images"])).unsqueeze(1).to(device)
    labels = torch.from_numpy(np.load(wanted["labels"])).to(device)
    torch.manual_seed(0)
    network = build(wanted | {"sides": images.shape[2:]}).to(device)
    layout = torch.channels_last if options.tuned else torch.contiguous_format
    network = network.to(memory_format=layout)
    model = torch.compile(network) if options.compile else network
    optimizer = torch.optim.Adam(network.parameters(), lr=wanted["lr"], eps=wanted["eps"], fused=options.tuned)
    precision = torch.autocast(device.type, torch.bfloat16) if options.bfloat16 else nullcontext()
    gate = Gate(torch=torch.__version__)
    while True:
        gate.begin()
        network.train()
        total, correct = torch.zeros((), device=device), torch.zeros((), device=device)
        for index in torch.randperm(len(labels), device=device).split(wanted["batch_size"]):
            batch = (images[index].float() * wanted["scale"]).contiguous(memory_format=layout)
            truth = labels[index]
            with precision:
                logits = model(batch)
                loss = F.cross_entropy(logits, truth)
            loss = loss + penalty(network, wanted["l2"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(truth)
            correct += (logits.argmax(1) == truth).sum()
        gate.end(objective=total / len(labels), accuracy=correct / len(labels))


if __name__ == "__main__":
    main()
