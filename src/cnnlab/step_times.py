"""How long a training step takes in float32 and in bf16-mixed, tried on the network itself."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnlab import process
from cnnlab.data.images import ImageData
from cnnlab.data.scaling import Scaling
from cnnlab.models.compiling import use_kernels
from cnnlab.networks import build_network
from cnnlab.settings.commands import Training
from cnnlab.stepping import Forward, Results, Step, in_graphs

STEPS = 5  # of each precision, by turns, after one that is not counted
PATIENCE = 2.0  # seconds after which the steps seen have to do


def measure(asked: Training, data: ImageData, device: torch.device) -> tuple[float, float]:
    """Return the seconds of a training step in float32 and in bf16-mixed, medians by turns; nothing else changes.

    On a CPU those of all threads together.
    """
    threads = torch.get_num_threads()
    process.use_threads(asked.threads)
    random = [torch.cuda.current_device()] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=random):
        network = build_network(asked.model, asked.regularization, data.input_shape, data.classes)
        if asked.trainer.compile in ("auto", "kernels") and device.type == "cpu":
            use_kernels(network)
        network.to(device).to(memory_format=torch.channels_last)
        size = min(asked.batch_size, len(data.train_images))
        images, labels = data.train_images[:size].to(device), data.train_labels[:size].to(device)
        scaling = Scaling(data.input_shape[0]).to(device)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
        forward = Forward(scaling, network, lambda images, labels: objective(network(scaling(images)), labels))
        steps = [step_in(dtype, forward, images, labels, optimizer) for dtype in (None, torch.bfloat16)]
        times: list[list[float]] = [[], []]
        # On a CPU other programs may be as busy: what counts is the time that it computed.
        clock = time.perf_counter if device.type == "cuda" else time.process_time
        begun = time.perf_counter()
        for turn in range(STEPS + 1):
            if turn > 1 and time.perf_counter() - begun > PATIENCE:
                break
            for step, seen in zip(steps, times, strict=True):
                started = clock()
                step()
                if turn:
                    seen.append(clock() - started)
    process.use_threads(threads)
    return statistics.median(times[0]), statistics.median(times[1])


def objective(logits: Tensor, labels: Tensor) -> Results:
    """Return the cross-entropy, twice, and the logits: what a training step is about."""
    loss = F.cross_entropy(logits.float(), labels)
    return loss, loss, logits


def step_in(
    dtype: torch.dtype | None, forward: Forward, images: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer
) -> Callable[[], None]:
    """Return a training step that waits for its end; on a GPU in graphs, as training takes it there."""
    on_cuda = images.device.type == "cuda"

    def in_precision() -> AbstractContextManager[object]:
        return torch.autocast(images.device.type, dtype, cache_enabled=False) if dtype else nullcontext()

    call: Step = forward
    if on_cuda:
        own = Forward(forward.scaling, forward.network, forward.step)  # recording changes a module
        with in_precision():
            call = in_graphs(own, images, labels)

    def step() -> None:
        optimizer.zero_grad()
        with in_precision():
            loss = call(images, labels)[0]
        loss.backward()
        optimizer.step()
        if on_cuda:
            torch.cuda.synchronize()

    return step
