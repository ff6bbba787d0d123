"""How a training step is computed: by torch's operators one after the other, or compiled as a whole."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Results = tuple[Tensor, Tensor, Tensor]  # what training minimizes, the cross-entropy, logits [B, classes]
Step = Callable[[Tensor, Tensor], Results]  # of images [B, C, H, W] and targets


class Forward(nn.Module):
    """The forward part of a training step, as a module whose parameters a compiler finds."""

    def __init__(self, scaling: nn.Module, network: nn.Module, step: Step):
        super().__init__()
        self.scaling = scaling
        self.network = network
        self.step = step

    def forward(self, images: Tensor, targets: Tensor) -> Results:
        objective, loss, logits = self.step(images, targets)
        return objective, loss.detach(), logits.detach()


def in_graphs(forward: Forward, images: Tensor, targets: Tensor) -> Step:
    """Return the step as two CUDA graphs, of forward and backward, for batches of this shape and type.

    A GPU replays a graph without waiting for Python, which needs longer for each operator of a small network than the
    GPU does. The steps taken to record them leave weights, statistics and random numbers as they were.
    """
    kept = [(buffer, buffer.clone()) for buffer in forward.buffers()]
    random = torch.cuda.get_rng_state(images.device)
    examples = images.clone(), targets.clone()
    try:
        replayed = torch.cuda.make_graphed_callables(forward, examples, allow_unused_input=True)
    finally:
        for buffer, values in kept:
            buffer.copy_(values)
        torch.cuda.set_rng_state(random, images.device)
    assert isinstance(replayed, Forward)
    shape, dtype = images.shape, targets.dtype

    def step(images: Tensor, targets: Tensor) -> Results:
        # The last batch of an epoch may be smaller.
        same = images.shape == shape and targets.dtype == dtype
        results: Results = replayed(images, targets) if same else forward.step(images, targets)
        return results

    return step


def by_inductor(forward: Forward, images: Tensor, targets: Tensor) -> Step:
    """Return the step as `torch.compile` makes it, once for each shape of a batch."""
    compiled: Step = torch.compile(forward, dynamic=False)
    return compiled


COMPILED: dict[str, Callable[[Forward, Tensor, Tensor], Step]] = {"graphs": in_graphs, "inductor": by_inductor}
