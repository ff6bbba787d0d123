"""What a sweep optimizes: a validation metric, alone or against the size or the speed of the network."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from optuna.trial import FrozenTrial, TrialState
from torch import nn

from cnnlab.errors import UsageError, unknown
from cnnlab.models import parameter_count
from cnnlab.settings.base import flatten
from cnnlab.settings.commands import unknown_monitor
from cnnlab.tracking.schema import MONITORS, Direction

COSTS = ("parameters", "latency")
WARM_UP, MEASURED = 10, 50  # forward passes


@dataclass(frozen=True)
class Goals:
    """One or two objectives by name; the first is the validation metric that pruning and the winner go by.

    `upward` names those of the metrics a user chose of which more is better.
    """

    names: tuple[str, ...]
    upward: tuple[str, ...] = ()

    @property
    def metric(self) -> str:
        return self.names[0]

    @property
    def directions(self) -> list[str]:
        """'minimize' or 'maximize' for each name, as Optuna calls them."""
        return ["maximize" if name.endswith("/acc") or name in self.upward else "minimize" for name in self.names]

    @property
    def single(self) -> bool:
        return len(self.names) == 1

    def best(self, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
        """Return the complete trial with the best metric; the earliest of equals, and None where there is none.

        While no trial has run to its end, the best of those that came furthest before they were pruned: pruning chose
        them over all others, and a sweep stopped early still names its winner.
        """
        among = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        if not among:
            pruned = [trial for trial in trials if trial.state == TrialState.PRUNED and trial.values]
            furthest = max((trial.last_step or 0 for trial in pruned), default=0)
            among = [trial for trial in pruned if trial.last_step == furthest]
        sign = 1 if self.directions[0] == "minimize" else -1
        return min(among, key=lambda trial: (sign * trial.values[0], trial.number), default=None)


def read_goals(objective: object, config: Mapping[str, object], monitors: Mapping[str, Direction] = MONITORS) -> Goals:
    """Return the goals of `sweep.objective`, a name or a list, of a training that has these monitors.

    The test split never selects, and training metrics reward overfitting: they are no goals. Raises UsageError where
    they cannot be optimized.
    """
    metrics = [name for name in monitors if name.startswith("val/")]
    names = tuple(str(name) for name in (objective if isinstance(objective, list | tuple) else [objective]))
    problems = []
    if not names or names[0] not in metrics:
        problems.append(unknown_monitor("sweep.objective", names[0] if names else "", metrics))
    problems += [
        unknown("sweep.objective", f"[{names[0]},{name}]", [f"[{names[0]},{cost}]" for cost in COSTS])
        for name in names[1:]
        if name not in COSTS
    ]
    if len(names) > 2 or len(set(names)) < len(names):
        problems.append(f"sweep.objective={list(names)!r} is not allowed; it takes one objective or two different ones")
    values = flatten(config)
    if values.get("dataset.validation.fraction") == 0 and values.get("dataset.validation.method") != "fold":
        problems.append(
            f"sweep.objective={names[0]!r} needs a validation split, but dataset.validation.fraction=0; "
            "give it a fraction: the test split never selects"
        )
    if problems:
        raise UsageError(*problems)
    return Goals(names, tuple(name for name in names if monitors.get(name) == "max"))


def cost(name: str, network: nn.Module, input_shape: tuple[int, int, int]) -> float:
    """Return the network's number of parameters, or its latency: median milliseconds for one image."""
    if name == "parameters":
        return float(parameter_count(network))
    device = next(network.parameters()).device
    image = torch.zeros(1, *input_shape, device=device)
    training, seconds = network.training, []
    network.eval()
    with torch.inference_mode():
        for _ in range(WARM_UP + MEASURED):
            started = time.perf_counter()
            network(image)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - started)
    network.train(training)
    return 1000 * statistics.median(seconds[WARM_UP:])
