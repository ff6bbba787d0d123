"""Convolution blocks through the compiled kernels: forward and backward of what stands between two convolutions."""

from __future__ import annotations

import ctypes
from typing import Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cnnlab.kernels.build import library

LANES = 16  # channels that one instruction takes; as in pooled.cpp
MOST_TAPS = 32  # of a first layer's kernel, all channels together; as in pooled.cpp
NUMBERS = {torch.float32: "float", torch.bfloat16: "bfloat16"}
LAST = torch.channels_last
Edges = tuple[int, int, int, int]


class Context(Protocol):
    """What torch keeps of a call for its backward part, and what is kept there of ours."""

    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]
    images: torch.Size
    weight: torch.Size
    shape: Shape
    strides: tuple[int, ...]
    dropped: int

    def save_for_backward(self, *tensors: Tensor) -> None: ...


class Shape(ctypes.Structure):
    """`Shape` of pooled.cpp."""

    NAMES = ("count", "height", "width", "inputs", "channels", "kernel", "left", "top", "rows", "columns")
    _fields_ = [(name, ctypes.c_int64) for name in NAMES]


class Pooled(torch.autograd.Function):
    """The maximum over 2x2 pixels, then ReLU where it is asked for: as torch's own two, bit for bit, in one pass."""

    @staticmethod
    def forward(context: Context, images: Tensor, relu: bool) -> Tensor:
        """Return [B, C, H // 2, W // 2] of float32 or bfloat16 [B, C, H, W], C a multiple of LANES."""
        images = images.contiguous(memory_format=LAST)
        count, channels, height, width = images.shape
        pooled = torch.empty((count, channels, height // 2, width // 2), dtype=images.dtype, memory_format=LAST)
        chosen = torch.empty(pooled.shape, dtype=torch.uint8, memory_format=LAST)
        run("pool", images.dtype, images, pooled, chosen, count, height, width, channels, int(relu))
        context.save_for_backward(chosen)
        context.images = images.shape
        return pooled

    @staticmethod
    @once_differentiable
    def backward(context: Context, gradient: Tensor) -> tuple[Tensor, None]:
        (chosen,) = context.saved_tensors
        count, channels, height, width = context.images
        gradient = gradient.contiguous(memory_format=LAST)
        images = torch.empty(context.images, dtype=gradient.dtype, memory_format=LAST)
        run("unpool", gradient.dtype, gradient, chosen, images, count, height, width, channels)
        return images, None


class FirstBlock(torch.autograd.Function):
    """A convolution of a few channels with stride 1, the maximum over 2x2 of its pixels, then ReLU where asked for.

    What the convolution computes is never written down. Sums are float32, in another order than oneDNN's: the last
    digits are others than torch's. Images get no gradient.
    """

    @staticmethod
    def forward(
        context: Context,
        images: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        edges: Edges,
        relu: bool,
        dtype: torch.dtype,
    ) -> Tensor:
        """Return [B, F, H', W'] in `dtype` of float32 [B, C, H, W]; `edges` (left, right, top, bottom) are zeros."""
        count, inputs, height, width = images.shape
        channels, _, kernel, _ = weight.shape
        left, right, top, bottom = edges
        rows, columns = (height + top + bottom - kernel + 1) // 2, (width + left + right - kernel + 1) // 2
        shape = Shape(count, height, width, inputs, channels, kernel, left, top, rows, columns)
        images = images.detach().contiguous(memory_format=LAST)
        taps = weight.detach().permute(2, 3, 1, 0).reshape(-1, channels).contiguous()
        added = torch.zeros(channels) if bias is None else bias.detach().contiguous()
        pooled = torch.empty((count, channels, rows, columns), dtype=dtype, memory_format=LAST)
        chosen = torch.empty(pooled.shape, dtype=torch.uint8, memory_format=LAST)
        run("first", dtype, ctypes.byref(shape), images, taps, added, pooled, chosen, int(relu))
        context.save_for_backward(images, chosen)
        context.shape, context.weight = shape, weight.shape
        return pooled

    @staticmethod
    @once_differentiable
    def backward(context: Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, chosen = context.saved_tensors
        channels, inputs, kernel, _ = context.weight
        gradient = gradient.contiguous(memory_format=LAST)
        # The last row is the bias'. The images' sums are added here, always in the same order.
        sums = torch.empty((len(images), kernel * kernel * inputs + 1, channels))
        run("first_backward", gradient.dtype, ctypes.byref(context.shape), images, gradient, chosen, sums)
        total = sums.sum(0)
        weight = total[:-1].view(kernel, kernel, inputs, channels).permute(3, 2, 0, 1)
        needed = context.needs_input_grad
        return None, weight if needed[1] else None, total[-1] if needed[2] else None, None, None, None


class Dropped(torch.autograd.Function):
    """Dropout of values that fill their memory without gaps, a multiple of LANES of them, from 16 random bits each."""

    @staticmethod
    def forward(context: Context, values: Tensor, bits: Tensor, dropped: int) -> Tensor:
        """Return float32 or bfloat16 `values`, those zeroed whose int16 `bits` are below `dropped` - 2**15."""
        context.save_for_backward(bits)
        context.strides, context.dropped = values.stride(), dropped
        return dropping(values, bits, dropped)

    @staticmethod
    @once_differentiable
    def backward(context: Context, gradient: Tensor) -> tuple[Tensor, None, None]:
        (bits,) = context.saved_tensors
        if gradient.stride() != context.strides:  # bits and gradient lie in memory alike
            gradient = torch.empty_strided(gradient.shape, context.strides, dtype=gradient.dtype).copy_(gradient)
        return dropping(gradient, bits, context.dropped), None, None


def dropping(values: Tensor, bits: Tensor, dropped: int) -> Tensor:
    """Return values that lie in memory as `bits` do, those zeroed whose bits say so and the others scaled up."""
    kept = torch.empty_like(values, memory_format=torch.preserve_format)
    run("drop", values.dtype, values, bits, kept, values.numel(), dropped)
    return kept


def run(name: str, dtype: torch.dtype, *arguments: object) -> None:
    """Call a kernel for a type of number: tensors as their memory, whole numbers as int64."""
    getattr(library(), f"{name}_{NUMBERS[dtype]}")(*map(passed, arguments))


def passed(argument: object) -> object:
    """Return an argument as C takes it."""
    if isinstance(argument, Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    return ctypes.c_int64(argument) if isinstance(argument, int) else argument
