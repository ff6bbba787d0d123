"""The metrics a user chose beside loss and accuracy: torchmetrics', measured on validation each epoch and on test."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassAveragePrecision,
    MulticlassCalibrationError,
    MulticlassCohenKappa,
    MulticlassF1Score,
    MulticlassMatthewsCorrCoef,
    MulticlassPrecision,
    MulticlassRecall,
    MulticlassSpecificity,
)

from cnnlab.errors import UsageError, collect
from cnnlab.metrics import CALIBRATION_BINS
from cnnlab.own import asked, called, own
from cnnlab.process import float32_by_default
from cnnlab.settings.training import Metrics, OwnMetric
from cnnlab.tracking.schema import Measure

# Of a number of classes. Those of `average="none"` count as their mean over all classes, as `class_metrics` has it;
# torchmetrics' own mean leaves out classes that no image is of or was taken for.
KINDS: dict[Measure, Callable[[int], Metric]] = {
    "f1": lambda classes: MulticlassF1Score(classes, average="none", validate_args=False),
    "precision": lambda classes: MulticlassPrecision(classes, average="none", validate_args=False),
    "recall": lambda classes: MulticlassRecall(classes, average="none", validate_args=False),
    "specificity": lambda classes: MulticlassSpecificity(classes, average="none", validate_args=False),
    "balanced_acc": lambda classes: MulticlassAccuracy(classes, average="macro", validate_args=False),
    "top3_acc": lambda classes: MulticlassAccuracy(classes, top_k=3, average="micro", validate_args=False),
    "top5_acc": lambda classes: MulticlassAccuracy(classes, top_k=5, average="micro", validate_args=False),
    "auroc": lambda classes: MulticlassAUROC(classes, validate_args=False),
    "average_precision": lambda classes: MulticlassAveragePrecision(classes, validate_args=False),
    "kappa": lambda classes: MulticlassCohenKappa(classes, validate_args=False),
    "matthews": lambda classes: MulticlassMatthewsCorrCoef(classes, validate_args=False),
    "calibration_error": lambda classes: MulticlassCalibrationError(
        classes, n_bins=CALIBRATION_BINS, validate_args=False
    ),
}
FEWEST_CLASSES = {"top3_acc": 3, "top5_acc": 5}


class Measures:
    """Metrics by name, of one split at a time, over all processes.

    No part of the classifier's modules: their states are counts and float32 whatever precision the network has, and no
    part of a checkpoint.
    """

    def __init__(self, metrics: Mapping[str, Metric]):
        self.metrics = MetricCollection(dict(metrics))  # those that need the same counts share them
        self.device = torch.device("cpu")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: logits [B, classes] and labels [B]; the metrics get probabilities, float32 [B, classes]."""
        if logits.device != self.device:
            self.metrics.to(logits.device)
            self.device = logits.device
        with float32_by_default():
            self.metrics.update(logits.detach().float().softmax(1), labels)

    def compute(self) -> dict[str, Tensor]:
        """Return the values over all images since the last call, by name."""
        with warnings.catch_warnings():  # such as that no image of the first epoch was taken for some class
            warnings.simplefilter("ignore")
            values = self.metrics.compute()
        self.metrics.reset()
        return {name: value.float().mean() for name, value in values.items()}


def build_measures(chosen: Metrics, classes: int) -> Measures | None:
    """Return the chosen metrics for a number of classes, None where there are none.

    Raises UsageError for those that cannot be made or measured.
    """
    problems: list[str] = []
    metrics: dict[str, Metric] = {}
    for item in chosen:
        if isinstance(item, OwnMetric):
            metric = collect(problems, own_metric, item, classes)
            if metric is not None:
                metrics[item.name] = metric
        elif classes < (fewest := FEWEST_CLASSES.get(item, 0)):
            problems.append(f"metrics: {item} needs at least {fewest} classes, and there are {classes}")
        else:
            metrics[item] = KINDS[item](classes)
    if problems:
        raise UsageError(*problems)
    return Measures(metrics) if metrics else None


def own_metric(settings: OwnMetric, classes: int) -> Metric:
    """Return a metric that a user's own configuration names, after trying it; it gets `num_classes` if it asks for it.

    Raises UsageError for what is no metric of torchmetrics' or gives anything but one number.
    """
    section = f"metrics.{settings.name}"
    make = own(section, settings)
    metric = called(section, make, **asked(make, num_classes=classes, classes=classes))
    if not isinstance(metric, Metric):
        returned = f"{section}: _target_={settings.target!r} returns {type(metric).__name__}"
        raise UsageError(f"{returned}; it takes a Metric of torchmetrics'")
    value = called(section, tried, metric, classes)
    if not isinstance(value, Tensor) or value.numel() != 1:
        given = f"values of shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise UsageError(f"{section}: compute() returns {given}; it takes one number")
    return metric


def tried(metric: Metric, classes: int) -> object:
    """Return what a metric says of twice as many images as there are classes, and leave it empty."""
    labels = torch.arange(classes).repeat(2)
    probabilities = torch.nn.functional.one_hot(labels.roll(1), classes).float().mul(3).softmax(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric.update(probabilities, labels)
        value = metric.compute()
    metric.reset()
    return value
