"""Dropout that draws its random numbers sixteen bits at a time on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnnlab.kernels.blocks import LANES, NUMBERS, Dropped


class Dropout(nn.Dropout):
    """`nn.Dropout`, with a rate of whole 65536ths on a CPU.

    There torch draws one 64-bit number for each value; here one decides four of them (docs/speed.md). Other
    devices, and values that lie neither in rows nor channels last, are left to torch. `compiled`: through the compiled
    kernels, which have to be there, in fewer passes.
    """

    compiled = False

    def forward(self, input: Tensor) -> Tensor:
        """Return `input`, of any shape, with values zeroed at the rate `p` in training and the others scaled up."""
        dropped = round(self.p * 2**16)
        if not (self.training and 0 < dropped < 2**16 and input.device.type == "cpu" and fills_memory(input)):
            return super().forward(input)
        count = input.numel()
        numbers = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        bits = numbers.view(torch.int16)[:count].as_strided(input.size(), input.stride())
        if self.compiled and input.dtype in NUMBERS and count % LANES == 0:
            return Dropped.apply(input, bits, dropped)
        kept = (bits >= dropped - 2**15).to(input.dtype)
        return input * kept.mul_(2**16 / (2**16 - dropped))


def fills_memory(values: Tensor) -> bool:
    """Return whether the values fill their memory without gaps, in rows or channels last."""
    channels_last = values.ndim == 4 and values.is_contiguous(memory_format=torch.channels_last)
    return values.is_contiguous() or channels_last
