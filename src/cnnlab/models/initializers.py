"""Kernel initializers as Keras defines them, drawn in place from torch's global random state."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

# A normal distribution cut at two standard deviations keeps this share of its standard deviation.
TRUNCATED_SHARE = 0.87962566103423978


def fans(kernel: torch.Tensor) -> tuple[int, int]:
    """Return (fan_in, fan_out) of a kernel [out, in, *window]; a dense kernel has no window."""
    window = math.prod(kernel.shape[2:])
    return kernel.shape[1] * window, kernel.shape[0] * window


def glorot_normal(kernel: torch.Tensor) -> None:
    """Truncated normal with standard deviation sqrt(2 / (fan_in + fan_out)); Glorot and Bengio, 2010."""
    _truncated_normal(kernel, math.sqrt(2 / sum(fans(kernel))))


def glorot_uniform(kernel: torch.Tensor) -> None:
    """Uniform within sqrt(6 / (fan_in + fan_out)); Glorot and Bengio, 2010."""
    _uniform(kernel, math.sqrt(6 / sum(fans(kernel))))


def he_normal(kernel: torch.Tensor) -> None:
    """Truncated normal with standard deviation sqrt(2 / fan_in); He et al., 2015."""
    _truncated_normal(kernel, math.sqrt(2 / fans(kernel)[0]))


def he_uniform(kernel: torch.Tensor) -> None:
    """Uniform within sqrt(6 / fan_in); He et al., 2015."""
    _uniform(kernel, math.sqrt(6 / fans(kernel)[0]))


INITIALIZERS: dict[str, Callable[[torch.Tensor], None]] = {
    "glorot_normal": glorot_normal,
    "glorot_uniform": glorot_uniform,
    "he_normal": he_normal,
    "he_uniform": he_uniform,
}


def _truncated_normal(kernel: torch.Tensor, deviation: float) -> None:
    # Keras widens the normal first, so that what is left after the cut has the deviation asked for.
    widened = deviation / TRUNCATED_SHARE
    nn.init.trunc_normal_(kernel, std=widened, a=-2 * widened, b=2 * widened)


def _uniform(kernel: torch.Tensor, limit: float) -> None:
    nn.init.uniform_(kernel, -limit, limit)
