"""What a network consists of, found by one forward pass: its layers or, where they are many, their blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from cnnlab.models.summary import evaluating

MOST = 40  # layers shown one by one; a deeper network is shown by its blocks
FEWEST = 8  # blocks that still tell something; a network of fewer is shown by its layers all the same


@dataclass(eq=False)
class Call:
    """One module at one of the times it runs, and the calls within.

    `inputs` and `output` are held with torch's count of their changes in place, so that no other tensor can be taken
    for them.
    """

    name: str
    module: nn.Module
    inputs: list[tuple[Tensor, int]]
    output: tuple[Tensor, int] | None = None
    within: list[Call] = field(default_factory=list)


@dataclass(frozen=True)
class Part:
    """A layer, or a block of `layers` of them.

    `shape` is its output's without the batch, None where it returns no tensor. `direct`: it was given what the part
    before returned, and not something computed in between, such as a sum or a reshaping. `again`: it ran before.
    """

    name: str
    module: nn.Module
    shape: tuple[int, ...] | None
    layers: int
    direct: bool
    again: bool


def parts(network: nn.Module, input_shape: tuple[int, ...]) -> list[Part]:
    """Return what runs when `network` is given a blank image [C, H, W], in that order.

    Leaves the network, its modes, its statistics and the random state as they were.
    """
    start, root = _traced(network, input_shape)
    chosen = finer = list(_leaves(root))
    depth = _depth(root)
    while len(chosen) > MOST and depth > 1:
        depth -= 1
        finer, chosen = chosen, list(_cut(root, depth))
    if len(chosen) < FEWEST:
        chosen = finer
    found: list[Part] = []
    met: set[nn.Module] = set()
    before: tuple[Tensor, int] | None = start
    for call in chosen:
        shape = tuple(call.output[0].shape[1:]) if call.output else None
        direct = before is not None and any(_same(item, before) for item in call.inputs)
        found.append(Part(call.name, call.module, shape, len(list(_leaves(call))), direct, call.module in met))
        met.add(call.module)
        before = call.output
    return found


def _traced(network: nn.Module, input_shape: tuple[int, ...]) -> tuple[tuple[Tensor, int], Call]:
    """Return the blank image that was given, and the network's call."""
    names = {module: name for name, module in network.named_modules()}
    outside = Call("", network, [])
    stack = [outside]

    def enter(module: nn.Module, inputs: tuple[object, ...]) -> None:
        call = Call(names[module] or type(module).__name__, module, [_held(item) for item in _tensors(inputs)])
        stack[-1].within.append(call)
        stack.append(call)

    def leave(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        tensors = _tensors(output if isinstance(output, tuple | list) else [output])
        stack.pop().output = _held(tensors[0]) if tensors else None

    handles = [module.register_forward_pre_hook(enter) for module in names]
    handles += [module.register_forward_hook(leave) for module in names]
    weights = next(network.parameters(), torch.empty(0))
    blank = torch.zeros(1, *input_shape, dtype=weights.dtype, device=weights.device)
    start = _held(blank)
    try:
        with evaluating(network), torch.no_grad():
            network(blank)
    finally:
        for handle in handles:
            handle.remove()
    return start, outside.within[0]


def _tensors(values: Sequence[object]) -> list[Tensor]:
    return [item for item in values if isinstance(item, Tensor)]


def _held(tensor: Tensor) -> tuple[Tensor, int]:
    return tensor, tensor._version


def _same(one: tuple[Tensor, int], other: tuple[Tensor, int]) -> bool:
    return one[0] is other[0] and one[1] == other[1]


def _depth(call: Call) -> int:
    return 1 + max(map(_depth, call.within)) if call.within else 0


def _leaves(call: Call) -> Iterator[Call]:
    if not call.within:
        yield call
    for item in call.within:
        yield from _leaves(item)


def _cut(call: Call, depth: int) -> Iterator[Call]:
    """Yield the calls `depth` levels within, and those above that have none within."""
    if depth == 0 or not call.within:
        yield call
        return
    for item in call.within:
        yield from _cut(item, depth - 1)
