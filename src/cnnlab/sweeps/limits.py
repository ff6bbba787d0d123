"""What a network may cost at most: known before it is trained, and told to the sampler by Optuna's own constraints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from cnnlab.sweeps.goals import cost
from cnnlab.sweeps.view import number


@dataclass(frozen=True)
class Limits:
    """The largest costs that are allowed, by their name: `parameters`, `latency`."""

    most: Mapping[str, float]

    def costs(self, network: nn.Module, input_shape: tuple[int, int, int]) -> dict[str, float]:
        """Return what the network costs of what is limited."""
        return {name: cost(name, network, input_shape) for name in self.most}

    def excess(self, costs: Mapping[str, float]) -> list[float]:
        """Return by how much each cost exceeds its limit, as a share of the limit."""
        return [costs[name] / limit - 1 for name, limit in self.most.items()]

    def exceeded(self, costs: Mapping[str, float]) -> str:
        """Return in words what costs too much; nothing where all is allowed."""
        return ", ".join(
            f"{name} {number(costs[name])} > {number(limit)}"
            for name, limit in self.most.items()
            if costs[name] > limit
        )
