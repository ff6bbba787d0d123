"""Optimizers and learning-rate schedules by the names of their settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, OneCycleLR, SequentialLR


class KerasAdam(Adam):
    """Adam as Keras 3 computes it: epsilon is added before the bias correction, where torch adds it after.

        m = beta1 * m + (1 - beta1) * gradient
        v = beta2 * v + (1 - beta2) * gradient**2
        weight = weight - lr * sqrt(1 - beta2**t) / (1 - beta1**t) * m / (sqrt(v) + epsilon)

    That is torch's update with an epsilon of epsilon / sqrt(1 - beta2**t), 32 times as large in the first step, so
    torch's own kernels compute it. A group keeps the setting as `epsilon` and the number of its steps as `steps`; `eps`
    is that of the last step. Source: keras/src/optimizers/adam.py.
    """

    def _init_group(self, group: dict[str, float], *lists: object) -> bool:
        decay: float = group["betas"][1]  # type: ignore[index]
        group["epsilon"] = group.get("epsilon", group["eps"])
        group["steps"] = group.get("steps", 0) + 1
        group["eps"] = group["epsilon"] / math.sqrt(1 - decay ** group["steps"])
        return super()._init_group(group, *lists)


class KerasAdamW(KerasAdam, AdamW):
    """AdamW with epsilon where Keras adds it; the decay is torch's, which is Keras' too."""


class KerasRMSprop(Optimizer):
    """RMSprop as Keras 3 computes it: epsilon is added under the square root, the rate enters before the momentum.

        velocity = rho * velocity + (1 - rho) * gradient**2
        increment = lr * gradient / sqrt(velocity + eps)

    torch adds epsilon to the root instead. For the usual 1e-7 that is no small change: the first step of a gradient of
    1e-4 is 0.31 lr here and 3.15 lr there, since Keras damps every gradient below about sqrt(eps / (1 - rho)) = 1e-3.
    `weight_decay` is decoupled (AdamW's), as in Keras. Raises ValueError for values out of range.
    Source: keras/src/optimizers/rmsprop.py.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        rho: float,
        momentum: float,
        eps: float,
        weight_decay: float,
    ):
        for name, value in {"lr": lr, "momentum": momentum, "eps": eps, "weight_decay": weight_decay}.items():
            if value < 0:
                raise ValueError(f"{name}={value}: must be at least 0")
        if not 0 <= rho < 1:
            raise ValueError(f"rho={rho}: must be at least 0 and below 1")
        super().__init__(params, dict(lr=lr, rho=rho, momentum=momentum, eps=eps, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step along the gradients; returns what `closure` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if weights:
                self._update(group, weights, [weight.grad for weight in weights])
        return loss

    def _update(self, group: dict[str, float], weights: list[Tensor], gradients: list[Tensor]) -> None:
        lr, rho, momentum = group["lr"], group["rho"], group["momentum"]
        velocities = self._state_of("velocity", weights)
        torch._foreach_mul_(velocities, rho)
        torch._foreach_addcmul_(velocities, gradients, gradients, value=1 - rho)
        roots = torch._foreach_add(velocities, group["eps"])
        torch._foreach_sqrt_(roots)
        if group["weight_decay"]:
            torch._foreach_mul_(weights, 1 - lr * group["weight_decay"])
        if momentum == 0:
            torch._foreach_addcdiv_(weights, gradients, roots, value=-lr)
            return
        momentums = self._state_of("momentum", weights)
        torch._foreach_mul_(momentums, momentum)
        torch._foreach_addcdiv_(momentums, gradients, roots, value=lr)
        torch._foreach_sub_(weights, momentums)

    def _state_of(self, name: str, weights: list[Tensor]) -> list[Tensor]:
        for weight in weights:
            if name not in self.state[weight]:
                self.state[weight][name] = torch.zeros_like(weight)
        return [self.state[weight][name] for weight in weights]


# Schedules over the whole training, stepped after every optimizer step.


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


# What `optimizer.name` chooses.
OPTIMIZERS: dict[str, type[Optimizer]] = {"adam": Adam, "adamw": AdamW, "rmsprop": KerasRMSprop, "sgd": SGD}
# And with optimizer.epsilon_placement=keras.
KERAS_PLACEMENT: dict[str, type[Optimizer]] = {"adam": KerasAdam, "adamw": KerasAdamW}
