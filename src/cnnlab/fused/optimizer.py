"""The steps of cnnlab's optimizers over the stacked weights of several networks, each with its own rate and decay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Rates:
    """What each of K networks has for itself: learning rate, weight decay and the strengths of its penalties."""

    lr: tuple[float, ...]
    weight_decay: tuple[float, ...]
    l2: tuple[float, ...]
    l1: tuple[float, ...]

    def keep(self, places: Sequence[int]) -> Rates:
        """Return those of the networks at these places."""
        kept = {name: tuple(getattr(self, name)[place] for place in places) for name in vars(self)}
        return replace(self, **kept)


class StackedOptimizer:
    """Steps for parameters [K, ...], whose `kernels` are those with penalties.

    A penalty is no part of the loss here: its gradient, 2 * l2 * w + l1 * sign(w), is added by the step. The moments
    are in `moments`, one list a kind, each with a tensor a parameter. Subclasses say in `update` how they descend.
    """

    decoupled = False  # whether the decay shrinks the weights themselves, and is not added to the gradient

    def __init__(self, parameters: Sequence[nn.Parameter], kernels: Sequence[Tensor], rates: Rates, kinds: int):
        self.parameters = list(parameters)
        self.are_kernels = [any(weights is kernel for kernel in kernels) for weights in parameters]
        self.rates = rates
        self.moments = [[torch.zeros_like(weights) for weights in parameters] for _ in range(kinds)]
        self.steps = 0
        self.factor = 1.0  # of the learning rates, in this step
        self.columns: dict[tuple[tuple[float, ...], int], Tensor] = {}

    def column(self, values: tuple[float, ...], weights: Tensor) -> Tensor:
        """Return K numbers in the shape [K, 1, ...] that multiplies a parameter."""
        key = values, weights.dim()
        if key not in self.columns:
            shape = (-1, *[1] * (weights.dim() - 1))
            self.columns[key] = torch.tensor(values, dtype=weights.dtype, device=weights.device).view(shape)
        return self.columns[key]

    @torch.no_grad()
    def step(self, factor: float = 1.0) -> None:
        """Take one step along the gradients, at `factor` times the rates, and forget the gradients."""
        self.steps, self.factor = self.steps + 1, factor
        self.update([weights.grad for weights in self.parameters], self.rates)  # type: ignore[misc]
        for weights in self.parameters:
            weights.grad = None

    def update(self, gradients: list[Tensor], rates: Rates) -> None:
        """Move the parameters along their gradients, and the moments with them."""
        raise NotImplementedError

    def penalized(self, gradients: list[Tensor], rates: Rates) -> None:
        """Add to the gradients what the penalties, and a decay that is not decoupled, add to them."""
        for weights, gradient, is_kernel in zip(self.parameters, gradients, self.are_kernels, strict=True):
            decay = self.added_decay(is_kernel, rates)
            if any(decay):
                gradient.addcmul_(weights, self.column(decay, weights))
            if is_kernel and any(rates.l1):
                gradient.addcmul_(weights.sign(), self.column(rates.l1, weights))

    def added_decay(self, is_kernel: bool, rates: Rates) -> tuple[float, ...]:
        """Return by what multiple of itself a parameter's gradient grows."""
        decay = [0.0 if self.decoupled else value for value in rates.weight_decay]
        return tuple(value + 2 * l2 if is_kernel else value for value, l2 in zip(decay, rates.l2, strict=True))

    def shrink(self, rates: Rates) -> None:
        """Take the decoupled decay off the weights."""
        if self.decoupled and any(rates.weight_decay):
            taken = tuple(lr * decay for lr, decay in zip(rates.lr, rates.weight_decay, strict=True))
            for weights in self.parameters:
                weights.addcmul_(weights, self.column(taken, weights), value=-self.factor)

    def keep(self, places: Sequence[int], parameters: Sequence[nn.Parameter]) -> None:
        """Keep the networks at these places, whose parameters the stack has cut by now."""
        self.parameters = list(parameters)
        self.rates = self.rates.keep(places)
        self.columns = {}
        for kind in self.moments:
            for number, values in enumerate(kind):
                kind[number] = values.index_select(0, torch.tensor(places, device=values.device))

    def moved(self, directions: list[Tensor], rates: Rates) -> None:
        """Go down the directions, each network as far as its rate says."""
        for weights, direction in zip(self.parameters, directions, strict=True):
            weights.addcmul_(direction, self.column(rates.lr, weights), value=-self.factor)


class StackedAdam(StackedOptimizer):
    """Adam and AdamW, with epsilon before the bias correction (Keras) or after it (torch).

    On a CPU torch's fused kernel takes the step of one network after the other, each value once through the cache.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        kernels: Sequence[Tensor],
        rates: Rates,
        *,
        betas: tuple[float, float],
        eps: float,
        keras: bool,
        decoupled: bool,
    ):
        super().__init__(parameters, kernels, rates, kinds=2)
        self.betas, self.eps, self.keras, self.decoupled = betas, eps, keras, decoupled

    def epsilon(self) -> float:
        """Return this step's epsilon as torch places it."""
        return self.eps / math.sqrt(1 - self.betas[1] ** self.steps) if self.keras else self.eps

    def update(self, gradients: list[Tensor], rates: Rates) -> None:
        if all(weights.device.type == "cpu" for weights in self.parameters):
            self.one_by_one(gradients, rates)
        else:
            self.all_at_once(gradients, rates)

    def all_at_once(self, gradients: list[Tensor], rates: Rates) -> None:
        """Step with a few operations over all networks, which suit a GPU."""
        self.penalized(gradients, rates)
        self.shrink(rates)
        first, second = self.moments
        torch._foreach_lerp_(first, gradients, 1 - self.betas[0])
        torch._foreach_mul_(second, self.betas[1])
        torch._foreach_addcmul_(second, gradients, gradients, value=1 - self.betas[1])
        roots = torch._foreach_sqrt(second)
        torch._foreach_div_(roots, math.sqrt(1 - self.betas[1] ** self.steps))
        torch._foreach_add_(roots, self.epsilon())
        directions = torch._foreach_div(first, roots)
        torch._foreach_div_(directions, 1 - self.betas[0] ** self.steps)
        self.moved(list(directions), rates)

    def one_by_one(self, gradients: list[Tensor], rates: Rates) -> None:
        """Step with torch's fused kernel, once a network, which goes through memory once."""
        added_here = self.decoupled or any(rates.l1)  # else torch's kernel adds them, as a decay
        if added_here:
            self.penalized(gradients, rates)
        beta1, beta2 = self.betas
        kernel = torch._fused_adamw_ if self.decoupled else torch._fused_adam_
        epsilon, steps = self.epsilon(), torch.tensor(float(self.steps))
        for is_kernel in (True, False):
            chosen = [place for place, kind in enumerate(self.are_kernels) if kind == is_kernel]
            kinds: tuple[Sequence[Tensor], ...] = (self.parameters, gradients, *self.moments)
            rows = [[kind[place].unbind() for place in chosen] for kind in kinds]
            decay = (0.0,) * len(rates.lr) if added_here else self.added_decay(is_kernel, rates)
            decay = rates.weight_decay if self.decoupled else decay
            for slot, lr in enumerate(rates.lr):
                weights, slopes, first, second = ([row[slot] for row in kind] for kind in rows)
                kernel(
                    weights, slopes, first, second, [], [steps] * len(chosen), lr=lr * self.factor, beta1=beta1,
                    beta2=beta2, weight_decay=decay[slot], eps=epsilon, amsgrad=False, maximize=False,
                )  # fmt: skip


class StackedSGD(StackedOptimizer):
    """Stochastic gradient descent as torch computes it, with or without momentum."""

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        kernels: Sequence[Tensor],
        rates: Rates,
        *,
        momentum: float,
        nesterov: bool,
    ):
        super().__init__(parameters, kernels, rates, kinds=1 if momentum else 0)
        self.momentum, self.nesterov = momentum, nesterov

    def update(self, gradients: list[Tensor], rates: Rates) -> None:
        self.penalized(gradients, rates)
        if self.momentum:
            (moved,) = self.moments
            torch._foreach_mul_(moved, self.momentum)
            torch._foreach_add_(moved, gradients)
            gradients = list(torch._foreach_add(gradients, moved, alpha=self.momentum)) if self.nesterov else moved
        self.moved(gradients, rates)


class StackedRMSprop(StackedOptimizer):
    """RMSprop as `cnnlab.optimizers.KerasRMSprop` computes it."""

    decoupled = True

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        kernels: Sequence[Tensor],
        rates: Rates,
        *,
        rho: float,
        momentum: float,
        eps: float,
    ):
        super().__init__(parameters, kernels, rates, kinds=2 if momentum else 1)
        self.rho, self.momentum, self.eps = rho, momentum, eps

    def update(self, gradients: list[Tensor], rates: Rates) -> None:
        self.penalized(gradients, rates)
        velocity = self.moments[0]
        torch._foreach_mul_(velocity, self.rho)
        torch._foreach_addcmul_(velocity, gradients, gradients, value=1 - self.rho)
        roots = torch._foreach_add(velocity, self.eps)
        torch._foreach_sqrt_(roots)
        self.shrink(rates)
        steps = list(torch._foreach_div(gradients, roots))
        if not self.momentum:
            self.moved(steps, rates)
            return
        moved = self.moments[1]
        torch._foreach_mul_(moved, self.momentum)
        for before, step in zip(moved, steps, strict=True):
            before.addcmul_(step, self.column(rates.lr, step), value=self.factor)
        for weights, direction in zip(self.parameters, moved, strict=True):
            weights.sub_(direction)
