"""What the authors of the published recipes reported, and the goals set beyond them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A reported accuracy on a split ('test' or 'val'); a goal has to be met by the mean itself, without tolerance."""

    accuracy: float
    split: str = "test"
    goal: bool = False

    def __str__(self) -> str:
        return f"{'goal ' if self.goal else ''}{self.accuracy:.4f}{' (val)' if self.split == 'val' else ''}"


TARGETS = {
    "mnist_dnn": Target(0.9631),
    "mnist_simple_cnn": Target(0.9865, split="val"),
    "mnist_deep_cnn": Target(0.9753),
    "mnist_convnet": Target(0.9929),
    "fashion_cnn": Target(0.9157),
    "mnist_mlp": Target(0.977),
    "mnist_cnn_dropout": Target(0.9928),
    "mnist_challenge": Target(0.9970, goal=True),
    "fashion_challenge": Target(0.948, goal=True),
    "mnist_speedrun": Target(0.990, goal=True),
    "mnist_speedrun_gpu": Target(0.990, goal=True),
}
