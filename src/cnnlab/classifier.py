"""The LightningModule around any network: loss, penalties, metrics and optimizer."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.utilities.types import LRSchedulerConfigType, OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from cnnlab.data.batches import Batches
from cnnlab.errors import diverged
from cnnlab.hooks import without_idle
from cnnlab.losses import OwnLoss, fitted
from cnnlab.measures import Measures
from cnnlab.metrics import Collector, EpochSums, Predictions
from cnnlab.models import frozen_layers, kernels, trained
from cnnlab.process import float32_by_default
from cnnlab.settings.training import Regularization
from cnnlab.stepping import Forward, Results, Step
from cnnlab.tracking.schema import Metric

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]


@dataclass(frozen=True)
class Schedule:
    """A learning-rate schedule, after what it is stepped, and the metric it watches, if it watches one."""

    scheduler: LRScheduler
    interval: Literal["step", "epoch"] = "step"
    monitor: str | None = None


MakeScheduler = Callable[[Optimizer, int], Schedule]


def at_least_single(values: Tensor) -> Tensor:
    """Return values in float32 where they are in less: the mean of a batch has more digits than bfloat16 keeps."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


class Classifier(pl.LightningModule):
    """Trains `network` on uint8 pixels and tells `loss`, `acc` and `objective` of each epoch.

    `scaling` maps pixels 0..255 [B, C, H, W] to the network's float input, `network` maps that to logits [B, classes].
    Of `regularization` the penalties and the label smoothing are used; dropout is part of the network. `make_optimizer`
    takes the parameters, `make_scheduler` the optimizer and the number of optimizer steps of the whole training.
    `description` is kept in every checkpoint, so that it can be rebuilt from the file alone: plain types only,
    because checkpoints are loaded with `weights_only=True`. `augmentation` changes training batches alone. `measures`
    are told of validation and test beside the rest. `loss` takes the place of the cross-entropy in what is minimized.
    """

    def __init__(
        self,
        scaling: nn.Module,
        network: nn.Module,
        regularization: Regularization,
        make_optimizer: MakeOptimizer | None,
        make_scheduler: MakeScheduler | None,
        description: dict[str, object],
        augmentation: nn.Module | None = None,
        measures: Measures | None = None,
        loss: OwnLoss | None = None,
    ):
        super().__init__()
        self.scaling = scaling
        self.network = network.to(memory_format=torch.channels_last)
        self.l2 = regularization.l2
        self.l1 = regularization.l1
        self.label_smoothing = regularization.label_smoothing
        self.make_optimizer = make_optimizer
        self.make_scheduler = make_scheduler
        self.description = description
        self.augmentation = augmentation
        self.measures = measures
        self.loss = loss
        self.class_weights: Tensor | None = None  # float32 [classes], of what training minimizes
        self.train_sums, self.val_sums, self.test_sums = EpochSums(), EpochSums(), EpochSums()
        self.collector = Collector()
        self.validated: dict[str, Tensor] = {}  # of this epoch's validation, until its training ends
        self.rate = 0.0  # of the last step
        self.compile_step: Callable[[Forward, Tensor, Tensor], Step] | None = None
        self.step: Step | None = None  # as it was compiled for the first batch
        self.shared: Batches | None = None  # where several processes share each batch
        # Of the whole test split once it has been read, or of validation once it was measured by itself.
        self.predictions: Predictions | None = None
        without_idle(self)
        self.train()

    def __setattr__(self, name: str, value: object) -> None:
        # Lightning notes the name of the running hook some thirty times a step; torch's own assignment, which looks for
        # parameters and modules first, made that a tenth of a small network's step.
        if name in ("_current_fx_name", "step"):  # a compiled step is no part of the network
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)  # type: ignore[arg-type]

    def train(self, mode: bool = True) -> Classifier:
        """Set the mode; layers that are frozen stay in evaluation mode, so that their statistics are frozen too."""
        super().train(mode)
        for layer in frozen_layers(self.network):
            layer.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [B, classes] of pixels 0..255 [B, C, H, W]."""
        return self.network(self.scaling(images))

    def penalty(self) -> Tensor | float:
        """Return the sum of the L2 and L1 penalties on the kernels, as Keras adds it to the loss."""
        total: Tensor | float = 0.0
        weights = [at_least_single(weight) for weight in kernels(self.network)] if self.l2 or self.l1 else []
        if self.l2:
            total = total + self.l2 * sum(weight.square().sum() for weight in weights)
        if self.l1:
            total = total + self.l1 * sum(weight.abs().sum() for weight in weights)
        return total

    def sums(self, split: str) -> EpochSums:
        """Return the sums of 'train', 'val' or 'test'."""
        return getattr(self, f"{split}_sums")

    def objective(self, split: str, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return what training minimizes over a batch, after adding the batch to the epoch's sums.

        Training images are augmented first; an augmentation that blends images blends their labels too, and the
        cross-entropy is then taken against the blend.
        """
        images, labels = batch
        targets = labels
        if split == "train" and self.augmentation is not None:
            with float32_by_default():
                images, targets = self.augmentation(images, labels)
        step = self.training_step_for(images, targets) if split == "train" else self.measured
        objective, loss, logits = step(images, targets)
        self.sums(split).update(loss, objective, logits, labels)
        if split != "train" and self.measures is not None:
            self.measures.update(logits, labels)
        if split == "test" or (split == "val" and self.alone):
            self.collector.update(logits, labels)
        return objective

    def measured(self, images: Tensor, targets: Tensor, weights: Tensor | None = None) -> Results:
        """Return the objective, the cross-entropy and the logits of a batch."""
        logits = at_least_single(self(images))
        loss = F.cross_entropy(logits, targets)
        return fitted(self.loss, logits, targets, loss, self.label_smoothing, weights) + self.penalty(), loss, logits

    def fitted(self, images: Tensor, targets: Tensor) -> Results:
        """Return what `measured` does of a training batch: with the weights of the classes, where they have some."""
        weights = self.class_weights.to(self.device) if self.class_weights is not None else None
        return self.measured(images, targets, weights)

    def training_step_for(self, images: Tensor, targets: Tensor) -> Step:
        """Return how a training batch is computed; what is compiled for it is compiled with the first one."""
        if self.compile_step is None:
            return self.fitted
        if self.step is None:
            self.step = self.compile_step(Forward(self.scaling, self.network, self.fitted), images, targets)
        return self.step

    @property
    def alone(self) -> bool:
        """Whether validation is measured by itself, and not as a part of training."""
        return self._trainer is not None and self._trainer.state.fn == "validate"

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        weight = 1.0 if self.shared is None else self.shared.weight(batch_index)
        if weight == 0:  # no image is this process' own: a zero that reaches all weights, for the others wait for it
            return self(batch[0]).sum()
        objective = self.objective("train", batch)
        if batch_index % self.look_every == 0:
            steps = self.trainer.num_training_batches
            self.check_finite(self.train_sums.objective, f"step {batch_index + 1} of {steps}")
        return objective if self.shared is None else objective * weight

    # Lightning reads the arguments at every step, and Python would write their list anew each time.
    training_step.__signature__ = inspect.signature(training_step)  # type: ignore[attr-defined]

    def check_finite(self, value: Tensor, where: str) -> None:
        """Raise Diverged, saying where, for a loss that is no number; the epoch's sum is none from then on."""
        if not math.isfinite(number := float(value)):
            rate = float(self.trainer.optimizers[0].param_groups[0]["lr"])
            raise diverged(number, self.current_epoch + 1, where, rate)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        self.objective("val", batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        self.objective("test", batch)

    def on_train_epoch_start(self) -> None:
        self.shared = self.trainer.train_dataloader if self.trainer.world_size > 1 else None
        self.train_started = time.perf_counter()
        self.train_seconds: float | None = None
        # Reading a number from a GPU waits for all it has been given to do.
        self.look_every = 1 if self.device.type == "cpu" else 50

    def end_training_part(self) -> None:
        """Stop the clock of the epoch's training, once; validation that follows is not training time."""
        if self.train_seconds is None:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)  # the kernels still queued belong to the epoch
            self.train_seconds = time.perf_counter() - self.train_started

    def on_validation_start(self) -> None:
        if not self.trainer.sanity_checking and self.trainer.state.fn == "fit":
            self.end_training_part()

    def on_train_epoch_end(self) -> None:
        self.end_training_part()
        assert self.train_seconds is not None
        self.check_finite(self.train_sums.objective, "its last step")
        if Metric.VAL_LOSS in self.validated:
            self.check_finite(self.validated[Metric.VAL_LOSS], "validation")
        images = float(self.train_sums.images) * self.trainer.world_size
        self.log_sums("train")
        self.log_dict(self.validated)  # once more, beside training: loggers get an epoch in one piece
        self.validated = {}
        self.log(Metric.EPOCH_SECONDS, time.perf_counter() - self.train_started)
        self.log(Metric.SPEED, images / self.train_seconds)
        self.log(Metric.LEARNING_RATE, self.rate)

    def on_validation_epoch_end(self) -> None:
        self.validated = self.log_sums("val", logger=False)
        if self.alone:
            self.predictions = self.collector.predictions()

    def on_test_epoch_end(self) -> None:
        self.log_sums("test")
        self.predictions = self.collector.predictions()

    def log_sums(self, split: str, *, logger: bool = True) -> dict[str, Tensor]:
        """Log the epoch's means, the same on every process, start the next epoch at zero, and return the means.

        `logger` says whether loggers get them now, or only those that watch.
        """
        sums = self.sums(split)
        means = {f"{split}/{name}": value for name, value in sums.compute().items()}
        if split != "train" and self.measures is not None:
            means |= {f"{split}/{name}": value for name, value in self.measures.compute().items()}
        self.log_dict(means, logger=logger)
        # Counted from 1, as people do: on the screen, in MLflow and in the checkpoint's file name. After the last one
        # Lightning has counted on already. 'step' is its own name for the step that loggers get.
        epoch = float(self.current_epoch + (split != "test"))
        self.log_dict({Metric.EPOCH: epoch, "step": epoch}, logger=logger)
        sums.reset()
        return means

    def configure_optimizers(self) -> OptimizerLRScheduler:
        assert self.make_optimizer is not None
        optimizer = self.make_optimizer(trained(self.network))
        optimizer.register_step_pre_hook(self.note_rate)
        if self.make_scheduler is None:
            return optimizer
        schedule = self.make_scheduler(optimizer, int(self.trainer.estimated_stepping_batches))
        config: LRSchedulerConfigType = {
            "scheduler": schedule.scheduler,
            "interval": schedule.interval,
            "monitor": schedule.monitor,
        }
        return {"optimizer": optimizer, "lr_scheduler": config}

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Drop the gradients, as the optimizer's own `zero_grad` does, which first tells profilers of it."""
        for group in optimizer.param_groups:
            for weight in group["params"]:
                weight.grad = None

    def note_rate(self, optimizer: Optimizer, *step: object) -> None:
        """Remember the rate of the step that the optimizer is about to take; its schedule moves on right afterwards."""
        object.__setattr__(self, "rate", float(optimizer.param_groups[0]["lr"]))

    def on_fit_end(self) -> None:
        self.step = None  # graphs hold the GPU's memory, and weights where they were

    def on_save_checkpoint(self, checkpoint: dict[str, object]) -> None:
        checkpoint["cnnlab"] = self.description
