"""Learning-rate schedules over the whole training, stepped after every optimizer step."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, OneCycleLR, SequentialLR


def cosine(optimizer: Optimizer, total_steps: int, *, warmup_fraction: float, final_factor: float) -> LRScheduler:
    """Return half a cosine from the optimizer's rate to `final_factor` of it, after a linear warm-up.

    `total_steps` counts optimizer steps; `warmup_fraction` is the share of them spent warming up.
    Source: Loshchilov and Hutter, SGDR, 2017, without restarts.
    """
    warmup_steps = int(warmup_fraction * total_steps)
    rate = optimizer.param_groups[0]["lr"]
    annealing = CosineAnnealingLR(optimizer, T_max=max(1, total_steps - warmup_steps), eta_min=final_factor * rate)
    if not warmup_steps:
        return annealing
    warmup = LinearLR(optimizer, start_factor=1 / (warmup_steps + 1), total_iters=warmup_steps)
    return SequentialLR(optimizer, [warmup, annealing], milestones=[warmup_steps])


def onecycle(optimizer: Optimizer, total_steps: int, *, warmup_fraction: float) -> LRScheduler:
    """Return torch's one-cycle schedule whose peak is the optimizer's own rate.

    Momentum (or Adam's first beta) stays where the configuration put it.
    Source: Smith and Topin, Super-Convergence, 2018.
    """
    rate = optimizer.param_groups[0]["lr"]
    return OneCycleLR(
        optimizer, max_lr=rate, total_steps=max(2, total_steps), pct_start=warmup_fraction, cycle_momentum=False
    )
