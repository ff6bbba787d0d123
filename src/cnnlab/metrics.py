"""What is measured: sums over an epoch, and what the predictions of a whole split say class by class."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.functional.classification import (
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)
from torchmetrics.utilities import dim_zero_cat

CALIBRATION_BINS = 15  # Guo et al., On Calibration of Modern Neural Networks, 2017
PER_CLASS = {"precision": multiclass_precision, "recall": multiclass_recall, "f1": multiclass_f1_score}


class Steady(Metric):
    """A metric whose states follow the module to its device and keep their own types.

    `trainer.precision=bf16-true` converts every module to bfloat16, which counts to 256 and no further.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> nn.Module:
        device = fn(torch.zeros((), device=self.device)).device

        def moved(state: Tensor) -> Tensor:
            widest = torch.float32 if device.type == "mps" and state.dtype == torch.float64 else state.dtype
            return state.to(device, widest)  # Apple's GPUs have no float64

        return super()._apply(moved, exclude_state)


class EpochSums(Steady):
    """Cross-entropy, objective and accuracy over an epoch, summed on the device and read once.

    The sums are weighted by images, so that the last, smaller batch counts for what it is, and they are added over all
    processes before they are divided: the result does not depend on how many devices shared the split. They are
    float64, the counts int64, whatever precision the network has.
    """

    full_state_update = False
    higher_is_better = None
    loss: Tensor
    objective: Tensor
    correct: Tensor
    images: Tensor

    def __init__(self) -> None:
        super().__init__()
        for names, dtype in ((("loss", "objective"), torch.float64), (("correct", "images"), torch.int64)):
            for name in names:
                self.add_state(name, default=torch.zeros((), dtype=dtype), dist_reduce_fx="sum")

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
        images = self.images.to(self.loss.dtype)  # two counts divided would be float32
        return {"loss": self.loss / images, "acc": self.correct / images, "objective": self.objective / images}


@dataclass(frozen=True, eq=False)
class Predictions:
    """Logits [N, classes] and labels int64 [N] of a split, in the split's own order, on the CPU."""

    logits: Tensor
    labels: Tensor

    @property
    def classes(self) -> int:
        return self.logits.shape[1]

    @cached_property
    def probabilities(self) -> Tensor:
        """Float32 [N, classes], every row adding up to 1."""
        return self.logits.softmax(dim=1)

    @cached_property
    def predicted(self) -> Tensor:
        """The most probable class of every image, int64 [N]."""
        return self.logits.argmax(dim=1)

    @cached_property
    def confusion(self) -> Tensor:
        """Counts, int64 [classes, classes]: true class down, predicted class across."""
        return multiclass_confusion_matrix(self.predicted, self.labels, self.classes)

    @cached_property
    def class_measures(self) -> dict[str, list[float]]:
        """Precision, recall and F1 of each class; a class without an image, or never predicted, counts as 0."""
        return {
            name: measure(self.predicted, self.labels, self.classes, average="none").tolist()
            for name, measure in PER_CLASS.items()
        }

    @cached_property
    def images_per_class(self) -> list[int]:
        return self.confusion.sum(dim=1).tolist()

    def most_confident_mistakes(self, count: int) -> Tensor:
        """Return the positions, int64 [at most `count`], of the wrong predictions the network was surest of."""
        wrong = (self.predicted != self.labels).nonzero().flatten()
        confidence = self.probabilities[wrong].amax(dim=1) if len(wrong) else torch.empty(0)
        return wrong[confidence.argsort(descending=True, stable=True)[:count]]

    def one_of_each_class(self, count: int) -> Tensor:
        """Return the positions of the first image of each of at most `count` classes, spread evenly over all."""
        present = self.labels.unique()
        step = max(1.0, len(present) / count)
        chosen = [int(present[int(place * step)]) for place in range(min(count, len(present)))]
        return torch.tensor([int((self.labels == label).nonzero()[0]) for label in chosen], dtype=torch.int64)


class Collector(Steady):
    """Gathers the logits and labels of a whole split, over all processes, in the split's own order.

    The order holds because every process evaluates one contiguous part, and the parts lie in the order of the ranks.
    """

    full_state_update = False
    logits: list[Tensor]
    labels: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("logits", default=[], dist_reduce_fx="cat")
        self.add_state("labels", default=[], dist_reduce_fx="cat")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: logits [B, classes] and labels [B]."""
        self.logits.append(logits.detach().float())
        self.labels.append(labels)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return the logits [N, classes] and labels [N] gathered since the last reset, from all processes."""
        return dim_zero_cat(self.logits), dim_zero_cat(self.labels)

    def predictions(self) -> Predictions:
        """Return what was gathered, on the CPU, and start empty again."""
        logits, labels = self.compute()
        self.reset()
        return Predictions(logits.cpu(), labels.cpu())


def mean_metrics(predictions: Predictions, split: str) -> dict[str, float]:
    """Return precision, recall, F1 and calibration error as metrics named `split/...`, all from 0 to 1.

    The first three are means over the classes. `test/calibration_error` is the expected difference between confidence
    and accuracy, over 15 bins of confidence.
    """
    error = multiclass_calibration_error(
        predictions.probabilities, predictions.labels, predictions.classes, n_bins=CALIBRATION_BINS, norm="l1"
    )
    means = {measure: sum(values) / len(values) for measure, values in predictions.class_measures.items()}
    return {f"{split}/{name}": value for name, value in {"calibration_error": float(error), **means}.items()}


def class_metrics(predictions: Predictions, class_names: Sequence[str], split: str) -> dict[str, float]:
    """Return the `mean_metrics`, and precision, recall and F1 of each class, such as `test/precision/cat`.

    A class without an image, or never predicted, counts as 0.
    """
    metrics, names = mean_metrics(predictions, split), metric_names(class_names)
    for measure, values in predictions.class_measures.items():
        metrics |= {f"{split}/{measure}/{name}": value for name, value in zip(names, values, strict=True)}
    return metrics


def metric_names(class_names: Sequence[str]) -> list[str]:
    """Return the class names as MLflow takes them in a metric's name: letters, digits, blank, _ and -; no two alike."""
    names: list[str] = []
    for position, name in enumerate(class_names):
        allowed = re.sub(r"[^\w\- ]", "_", name)[:100]
        names.append(f"{allowed} {position}" if allowed in names else allowed)
    return names
