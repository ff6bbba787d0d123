"""What stacked networks minimize: the cross-entropy of each, with its own label smoothing, and its own penalties."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor


class Sums:
    """Cross-entropy, objective and accuracy of K networks over an epoch, as `cnnlab.metrics.EpochSums` has them."""

    def __init__(self, slots: int, device: torch.device):
        wide = torch.float32 if device.type == "mps" else torch.float64
        self.loss = torch.zeros(slots, dtype=wide, device=device)
        self.objective = torch.zeros_like(self.loss)
        self.correct = torch.zeros(slots, dtype=torch.int64, device=device)
        self.images = 0

    def update(self, loss: Tensor, objective: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: mean losses and objectives [K], logits [K, B, classes] and labels [B] or [K, B]."""
        size = logits.shape[1]
        self.loss.add_(loss, alpha=size)
        self.objective.add_(objective, alpha=size)
        self.correct.add_((logits.argmax(2) == labels).sum(1))
        self.images += size

    def means(self) -> list[dict[str, float]]:
        """Return `loss`, `acc` and `objective` of each network."""
        columns = self.loss / self.images, self.correct / self.images, self.objective / self.images
        rows = torch.stack([column.double().cpu() for column in columns], 1).tolist()
        return [dict(zip(("loss", "acc", "objective"), row, strict=True)) for row in rows]


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean cross-entropies [K], what is minimized of them [K], and its gradient by the logits.

    Logits are float [K, B, classes], labels int64 [B] or [K, B], `smoothing` [K, 1, 1] or None. The gradient of the
    sum over the networks is each one's own: the softmax minus the smoothed label, a share of the batch.
    """
    slots, size, classes = logits.shape
    chosen = labels.expand(slots, size).unsqueeze(2)
    logs = logits.log_softmax(2)
    loss = -logs.gather(2, chosen).mean((1, 2))
    fitted, gradient = loss, logs.exp()
    if smoothing is None:
        gradient.scatter_add_(2, chosen, gradient.new_full((1, 1, 1), -1.0).expand_as(chosen))
    else:
        share = smoothing.view(-1)
        fitted = (1 - share) * loss - share * logs.mean((1, 2))
        gradient.scatter_add_(2, chosen, (smoothing - 1).expand_as(chosen)).sub_(smoothing / classes)
    return loss, fitted, gradient.div_(size)


def penalties(kernels: Sequence[Tensor], l2: Sequence[float], l1: Sequence[float]) -> Tensor | float:
    """Return the penalties [K] of kernels [K, ...], as they are added to the loss; no gradient."""
    total: Tensor | float = 0.0
    with torch.no_grad():
        flat = [kernel.flatten(1) for kernel in kernels] if any(l2) or any(l1) else []
        for strengths, order in ((l2, 2), (l1, 1)):
            if any(strengths):
                norms = torch.stack([torch.linalg.vector_norm(rows, order, dim=1) ** order for rows in flat]).sum(0)
                total = total + norms * _row(tuple(strengths), norms.dtype, norms.device)
    return total


@lru_cache(maxsize=16)  # a GPU would wait for a copy in every step
def _row(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=device)
