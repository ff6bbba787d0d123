"""The weights that a training begins with: read as data from a tracked run or a file, loaded where they fit, frozen."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn

from cnnlab.errors import UNREADABLE, UsageError, nearest, one_line
from cnnlab.models import layer_name
from cnnlab.tracking.find import download_checkpoint, open_client, run_with_id

KEY = "init_from"
RUN_ID = re.compile(r"[0-9a-f]{6,32}")
FILES = ("*.ckpt", "*.pt", "*.pth")
SHOWN = 6  # names in a line


@dataclass(frozen=True, eq=False)
class Weights:
    """Tensors by the names their network gave them, and where they came from; `scaling` is of a checkpoint alone."""

    tensors: Mapping[str, Tensor]
    source: str
    run_id: str | None = None
    scaling: str | None = None

    def digest(self) -> str:
        """Return 12 hexadecimal digits that change with any weight, whatever file or run they lie in."""
        content = hashlib.blake2b(digest_size=6)
        for name, values in sorted(self.tensors.items()):
            content.update(f"{name} {values.dtype} {list(values.shape)} ".encode())
            content.update(values.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return content.hexdigest()


@dataclass(frozen=True)
class Start:
    """How a network begins: in words, and the source of its weights where it had one."""

    lines: tuple[str, ...] = ()
    run_id: str | None = None
    digest: str | None = None


LoadWeights = Callable[[str, str], Weights]


@dataclass
class WeightsCache:
    """Loads the weights of each name once and keeps them."""

    loaded: dict[str, Weights] = field(default_factory=dict)

    def __call__(self, name: str, uri: str) -> Weights:
        if name not in self.loaded:
            self.loaded[name] = load_weights(name, uri)
        return self.loaded[name]


def load_weights(name: str, uri: str) -> Weights:
    """Return the weights of a file, or of the checkpoint of the run with this id in the store `uri`.

    Raises UsageError where there is neither, and for a file that holds no weights.
    """
    path = Path(name).expanduser()
    if path.is_file() or not RUN_ID.fullmatch(name):
        return weights_in(read_data(path, KEY), f"{KEY}={name}", str(path))
    client = open_client(uri)
    run = run_with_id(client, name, KEY)
    file = download_checkpoint(client, run, KEY)
    run_id = run.info.run_id
    return weights_in(
        read_data(file, KEY, f"{KEY}={name}: its checkpoint"),
        f"{KEY}={name}",
        f"run {run_id} ({run.info.run_name})",
        run_id,
    )


def read_data(path: Path, key: str, named: str | None = None) -> object:
    """Return what a file of torch's holds, tensors and plain values; nothing in it is executed.

    Raises UsageError, naming the setting `key`, where the file is missing, and calling it `named` where it cannot be
    read so.
    """
    if not path.is_file():
        there = [item.name for pattern in FILES for item in path.parent.glob(pattern)] if path.parent.is_dir() else []
        hint = f"; the folder holds {', '.join(sorted(there)[:3])}" if there else ""
        also = "" if key != KEY or "/" in str(path) or path.suffix else " and no run's id (6 characters of it or more)"
        raise UsageError(f"{key}={path} is not a file{also}{hint}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise UsageError(f"{named or f'{key}={path}'} cannot be read: {unreadable(error)}") from error


def unreadable(error: Exception) -> str:
    """Return why torch did not read a file, without its advice to execute what lies in it."""
    if not isinstance(error, UnpicklingError) or "weights_only" not in str(error):
        return one_line(error)
    if "Unsupported operand" in str(error):
        return "it is no file of torch's"
    return "it holds more than tensors and plain values; nothing in it was executed"


def weights_in(content: object, given: str, source: str, run_id: str | None = None) -> Weights:
    """Return the weights in what a file holds: a checkpoint of cnnlab's or Lightning's, or a plain state_dict."""
    scaling = None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        described = content.get("cnnlab")
        dataset = described.get("dataset") if isinstance(described, dict) else None
        scaling = dataset.get("scaling") if isinstance(dataset, dict) else None
        content = content["state_dict"]
    named = content.items() if isinstance(content, dict) else ()
    found = {name: values.detach() for name, values in named if isinstance(name, str) and plain(values)}
    ours = {name.removeprefix("network."): values for name, values in found.items() if name.startswith("network.")}
    if not found:
        raise UsageError(f"{given} holds no weights: neither a checkpoint nor a state_dict")
    return Weights(ours or found, source, run_id, scaling if isinstance(scaling, str) else None)


def plain(values: object) -> bool:
    """Return whether something is a tensor with its numbers in memory."""
    if not isinstance(values, Tensor) or values.is_quantized:
        return False
    return values.layout == torch.strided and values.device.type == "cpu"


def begin(network: nn.Module, weights: Weights | None, freeze: Sequence[str], scaling: str) -> Start:
    """Load into the network what fits it by name and shape, and freeze the parameters that `freeze` names.

    `scaling` is how this training scales pixels. Raises UsageError where nothing fits, where a pattern names nothing,
    and where nothing would be left to train or a frozen parameter was not loaded.
    """
    lines: list[str] = []
    left = dict[str, str]()
    if weights is not None:
        left = load_into(network, weights)
        lines += loaded_lines(network, weights, left, scaling)
    frozen = matching(network, freeze)
    problems = [f"freeze: {name} would stay as it was drawn, {left[name]}" for name in frozen if name in left]
    if frozen and len(frozen) == len(list(network.parameters())):
        problems.append(f"freeze=[{', '.join(freeze)}] leaves no parameter to train")
    if problems:
        raise UsageError(*problems)
    for values in frozen.values():
        values.requires_grad_(False)
    if frozen:
        count, total = (sum(values.numel() for values in part) for part in (frozen.values(), network.parameters()))
        drawn = "" if weights else ", as they were drawn"
        lines.append(f"frozen{drawn}: {count:,} of {total:,} parameters: {short_list(frozen)}")
    return Start(tuple(lines), weights.run_id if weights else None, weights.digest() if weights else None)


def load_into(network: nn.Module, weights: Weights) -> dict[str, str]:
    """Copy what fits by name and shape; return the names of the others with the reason.

    Raises UsageError where no kernel fits.
    """
    left: dict[str, str] = {}
    mine = network.state_dict()
    for name, values in mine.items():
        theirs = weights.tensors.get(name)
        if theirs is None:
            left[layer_name(name)] = "not there"
        elif theirs.shape != values.shape:
            left[layer_name(name)] = f"{times(theirs)} there, {times(values)} here"
        elif theirs.is_floating_point() != values.is_floating_point() or theirs.is_complex():
            left[layer_name(name)] = f"{theirs.dtype} there, {values.dtype} here"
        else:
            values.copy_(theirs)
    # A bias fits by its number of units alone, which says nothing.
    telling = [layer_name(name) for name, values in network.named_parameters() if values.dim() > 1]
    if all(name in left for name in telling):
        reasons = short_list(f"{name} ({why})" for name, why in left.items())
        raise UsageError(f"{KEY}: no weight of {weights.source} fits this network: {reasons}")
    return left


def loaded_lines(network: nn.Module, weights: Weights, left: Mapping[str, str], scaling: str) -> list[str]:
    """Return in words what was loaded, what not and why."""
    names = list(network.state_dict())
    lines = [f"begins with {len(names) - len(left)} of {len(names)} tensors of {weights.source}"]
    if left:
        lines.append(f"not loaded: {short_list(f'{name} ({why})' for name, why in left.items())}")
    if surplus := [layer_name(name) for name in weights.tensors if name not in names]:
        lines.append(f"not in this network: {short_list(surplus)}")
    if weights.scaling not in (None, scaling):
        lines.append(f"they were trained with dataset.scaling={weights.scaling}; here it is {scaling}")
    return lines


def matching(network: nn.Module, patterns: Sequence[str]) -> dict[str, nn.Parameter]:
    """Return the parameters that the patterns name, themselves (`conv1.weight`) or by their layer (`conv1`).

    Raises UsageError for each pattern that names none.
    """
    parameters = {layer_name(name): values for name, values in network.named_parameters()}
    found: set[str] = set()
    problems = []
    for pattern in patterns:
        wanted = layer_name(pattern)
        matched = {
            name for name in parameters if fnmatchcase(name, wanted) or fnmatchcase(name.rpartition(".")[0], wanted)
        }
        if not matched:
            layers = dict.fromkeys(name.rpartition(".")[0] for name in parameters)
            near = nearest(pattern, [*layers, *parameters])
            problems.append(f"freeze={pattern!r} names no parameter; there are {short_list(parameters)}{near}")
        found |= matched
    if problems:
        raise UsageError(*problems)
    return {name: values for name, values in parameters.items() if name in found}


def short_list(names: Iterable[str]) -> str:
    """Return the first names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def times(values: Tensor) -> str:
    return "x".join(map(str, values.shape)) or "one number"
