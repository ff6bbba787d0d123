"""What is measured over an epoch, and the names under which it is known everywhere."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

SPLITS = ("train", "val", "test")
MEASURES = ("loss", "acc", "objective")


def monitors() -> dict[str, str]:
    """Return every metric a checkpoint or early stopping may watch, with its direction: 'min' or 'max'.

    The test split is not among them: it never selects anything.
    """
    return {f"{split}/{name}": "max" if name == "acc" else "min" for split in ("train", "val") for name in MEASURES}


class EpochSums(Metric):
    """Cross-entropy, objective and accuracy over an epoch, summed on the device and read once.

    The sums are weighted by images, so that the last, smaller batch counts for what it is, and they are added over all
    processes before they are divided: the result does not depend on how many devices shared the split.
    """

    full_state_update = False
    higher_is_better = None
    loss: Tensor
    objective: Tensor
    correct: Tensor
    images: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("loss", "objective", "correct", "images"):
            self.add_state(name, default=torch.zeros(()), dist_reduce_fx="sum")

    def update(self, loss: Tensor, objective: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: its mean cross-entropy, its mean objective, logits [B, classes] and labels [B]."""
        # In place: assigning an attribute of a Module costs more than the addition.
        size = labels.shape[0]
        self.loss.add_(loss.detach(), alpha=size)
        self.objective.add_(objective.detach(), alpha=size)
        self.correct.add_((logits.argmax(1) == labels).sum())
        self.images.add_(size)

    def compute(self) -> dict[str, Tensor]:
        """Return the means over all images seen: `loss` and `objective` in nats, `acc` from 0 to 1."""
        return {
            "loss": self.loss / self.images,
            "acc": self.correct / self.images,
            "objective": self.objective / self.images,
        }
