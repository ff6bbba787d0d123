"""How a network is trained: regularization, augmentation, optimizer, scheduler and what watches it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Strict, Tag

from cnnlab.settings.base import (
    Additions,
    Called,
    NotNegative,
    Own,
    Pair,
    Positive,
    Says,
    Section,
    Share,
    Text,
    ToldBy,
    Whole,
)
from cnnlab.tracking.schema import MEASURES, MONITORS, Direction, Measure


class Regularization(Section):
    """What keeps a network from learning its training images by heart."""

    name: Text = Field(description="its name in tags and tables")
    conv_dropout: Share = Field(description="of the values after every downsampling of a ConvNet")
    dense_dropout: Share = Field(description="of the values after every hidden dense layer")
    l2: NotNegative = Field(description="l2 * sum(kernel ** 2) is added to the loss, as Keras does; kernels only")
    l1: NotNegative = Field(description="l1 * sum(|kernel|) is added to the loss")
    label_smoothing: Share = Field(description="of each label, spread over all classes")


class Adam(Section):
    """Adam, or AdamW with decoupled weight decay."""

    name: Literal["adam", "adamw"] = Field(description="which optimizer")
    lr: Positive = Field(description="learning rate")
    betas: Pair = Field(description="decay of the first and of the second moment")
    eps: Positive = Field(description="added to the denominator")
    epsilon_placement: Literal["keras", "torch"] = Field(
        description="keras: eps is added before the bias correction; torch: after it"
    )
    weight_decay: NotNegative = Field(description="of adam added to the gradient, of adamw decoupled")
    fused: bool | None = Field(description="one kernel for the whole step; null: torch's own choice")


class RMSprop(Section):
    """RMSprop as Keras computes it."""

    name: Literal["rmsprop"] = Field(description="which optimizer")
    lr: Positive = Field(description="learning rate")
    rho: Share = Field(description="decay of the squared gradient's mean; torch calls it alpha")
    momentum: Share = Field(description="share of the last step that is taken again")
    eps: Positive = Field(description="added under the square root")
    weight_decay: NotNegative = Field(description="decoupled, as in AdamW")


class SGD(Section):
    """Stochastic gradient descent."""

    name: Literal["sgd"] = Field(description="which optimizer")
    lr: Positive = Field(description="learning rate")
    momentum: Share = Field(description="share of the last step that is taken again")
    nesterov: bool = Field(description="look ahead along the momentum")
    weight_decay: NotNegative = Field(description="added to the gradient")
    fused: bool | None = Field(description="one kernel for the whole step; null: torch's own choice")

    def conflicts(self, path: str) -> Iterator[str]:
        if self.nesterov and self.momentum == 0:
            yield f"{path}nesterov=true needs a momentum, but {path}momentum=0.0"


OPTIMIZERS = ("adam", "adamw", "rmsprop", "sgd")


class _Optimizers(ToldBy):
    def __call__(self, value: object) -> str | None:
        name = super().__call__(value)
        return "adam" if name == "adamw" else name


Optimizer = Annotated[
    Annotated[Adam, Tag("adam")] | Annotated[RMSprop, Tag("rmsprop")] | Annotated[SGD, Tag("sgd")]
    | Annotated[Own, Tag("own")],
    Discriminator(_Optimizers("name", OPTIMIZERS)),
]  # fmt: skip


class Constant(Section):
    """A constant learning rate."""

    name: Literal["none"] = Field(description="which schedule")


class Cosine(Section):
    """Half a cosine from optimizer.lr down, over the whole training."""

    name: Literal["cosine"] = Field(description="which schedule")
    warmup_fraction: Share = Field(description="of the training, from nearly zero up to optimizer.lr")
    final_factor: NotNegative = Field(description="of optimizer.lr at the end")


class OneCycle(Section):
    """Up to optimizer.lr and down to nearly zero."""

    name: Literal["onecycle"] = Field(description="which schedule")
    warmup_fraction: Share = Field(description="of the training, on the way up")


SCHEDULERS = ("none", "cosine", "onecycle")
Scheduler = Annotated[
    Annotated[Constant, Tag("none")] | Annotated[Cosine, Tag("cosine")] | Annotated[OneCycle, Tag("onecycle")]
    | Annotated[Own, Tag("own")],
    Discriminator(ToldBy("name", SCHEDULERS)),
]  # fmt: skip


class CrossEntropy(Section):
    """The cross-entropy, with regularization.label_smoothing."""

    name: Literal["cross_entropy"] = Field(description="which loss")


LOSSES = ("cross_entropy",)
Loss = Annotated[
    Annotated[CrossEntropy, Tag("cross_entropy")] | Annotated[Own, Tag("own")], Discriminator(ToldBy("name", LOSSES))
]


# Which of val/NAME there are, Training knows.
Monitor = Annotated[
    str, Field(pattern="^(train|val)/."), Says(f"{', '.join(MONITORS)}, or val/NAME for each NAME in metrics")
]


class Checkpoint(Section):
    """Which epoch is kept and tested."""

    monitor: Monitor | None = Field(description="the metric that chooses; null: the last epoch")


class EarlyStopping(Section):
    """When training ends before trainer.max_epochs."""

    monitor: Monitor = Field(description="the metric that has to improve")
    patience: Whole = Field(description="epochs it may fail to")


class Callbacks(Additions):
    """What watches a training; any other key with a `_target_` is a Lightning callback of the user's own."""

    checkpoint: Checkpoint = Field(description="which epoch is kept and tested")
    early_stopping: EarlyStopping | None = Field(description="null: train for all trainer.max_epochs")
    ema_decay: Share | None = Field(description="of a moving average of the weights, which is kept instead; or null")


class Loggers(Additions):
    """Lightning's loggers, or a user's own, beside the tracked run: each under a key of its own, with a `_target_`."""


class OwnMetric(Called):
    """A metric of torchmetrics', or of the user's own."""

    name: Annotated[str, Field(pattern=r"^[\w\- .]+$")] = Field(description="measured as val/NAME and test/NAME")
    direction: Direction = Field(description="which way is better: min or max")


def _kind_of_metric(value: object) -> str:
    return "own" if isinstance(value, Mapping | OwnMetric) else "name"


Metrics = Annotated[
    tuple[
        Annotated[Annotated[Measure, Tag("name")] | Annotated[OwnMetric, Tag("own")], Discriminator(_kind_of_metric)],
        ...,
    ],
    Strict(False),
    Says(f"a list of {', '.join(MEASURES)}, and sections with a name, a _target_ and a direction (min or max)"),
]


def measured(metrics: Metrics) -> dict[str, Direction]:
    """Return the names of the chosen metrics, and which way is better."""
    return {
        item.name if isinstance(item, OwnMetric) else item: (
            item.direction if isinstance(item, OwnMetric) else MEASURES[item]
        )
        for item in metrics
    }
