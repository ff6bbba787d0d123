"""Which trainings can be one program, and what each of them has for itself there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from cnnlab.choices import on_gpu
from cnnlab.fused.optimizer import Rates, StackedAdam, StackedOptimizer, StackedRMSprop, StackedSGD
from cnnlab.settings import training
from cnnlab.settings.augmentation import Unchanged
from cnnlab.settings.base import Own, Section, digest
from cnnlab.settings.commands import Training
from cnnlab.settings.model import MLP, TorchVision

# What each network of a stack has for itself; all else must be equal.
OWN = (
    "seed",
    "optimizer.lr",
    "optimizer.weight_decay",
    "regularization.l2",
    "regularization.l1",
    "regularization.label_smoothing",
    "regularization.conv_dropout",
    "regularization.dense_dropout",
)
IDLE = ("tracking", "figures", "regularization.name")  # what no training depends on
AUTOMATIC = 16
SINGLE, MIXED = ("32-true", "32", 32), "bf16-mixed"


def shape_of(settings: Training) -> str:
    """Return what is the same for all trainings that may share a stack; a network without dropout has no such layer."""
    values = settings.flat()
    same = {key: value for key, value in values.items() if key not in OWN and not key.startswith(IDLE)}
    rates = settings.regularization.conv_dropout > 0, settings.regularization.dense_dropout > 0
    return digest(same | {"dropout": rates})


def obstacle(settings: Training) -> str | None:
    """Return the first setting that keeps a training out of every stack, as KEY=VALUE or KEY; None where it may."""
    return next(_obstacles(settings), None)


def at_once(fused: int | str | None, settings: Training) -> int:
    """Return how many trainings of a search `fused` asks for as one program; 1 where each trains by itself.

    'auto' asks for them where that was measured to win (docs/sweeps.md): on a GPU, and for dense networks on a CPU.
    """
    if obstacle(settings) is not None or fused is None:
        return 1
    if isinstance(fused, int):
        return fused
    return AUTOMATIC if on_gpu(settings.trainer) or isinstance(settings.model, MLP) else 1


def _obstacles(settings: Training) -> Iterator[str]:
    sections: dict[str, Section] = {"model": settings.model, "loss": settings.loss}
    sections |= {"optimizer": settings.optimizer, "scheduler": settings.scheduler}
    yield from (f"{name}._target_={value.target}" for name, value in sections.items() if isinstance(value, Own))
    if isinstance(settings.model, TorchVision):
        yield f"model.network={settings.model.network}"
    if not isinstance(settings.augmentation, Unchanged):
        yield f"augmentation={settings.augmentation.name}"
    if settings.dataset.balance == "weights":
        yield "dataset.balance=weights"
    if settings.freeze:
        yield "freeze"
    yield from (f"callbacks.{key}" for key in settings.callbacks.own)
    if settings.callbacks.ema_decay is not None:
        yield f"callbacks.ema_decay={settings.callbacks.ema_decay}"
    yield from (f"loggers.{key}" for key in settings.loggers.own)
    trainer = settings.trainer
    if trainer.precision not in (*SINGLE, MIXED):
        yield f"trainer.precision={trainer.precision}"
    if trainer.devices not in (1, "1", "auto") or trainer.num_nodes != 1:
        yield f"trainer.devices={trainer.devices}"
    if trainer.deterministic:
        yield f"trainer.deterministic={trainer.deterministic}"
    yield from (f"trainer.{key}" for key in trainer.model_extra or {})


def build_optimizer(
    settings: Sequence[Training], parameters: Sequence[nn.Parameter], kernels: Sequence[Tensor]
) -> StackedOptimizer:
    """Return the optimizer of trainings that may share a stack."""
    kind, penalties = settings[0].optimizer, [each.regularization for each in settings]
    assert not isinstance(kind, Own)
    rates = Rates(
        lr=tuple(each.optimizer.lr for each in settings),  # type: ignore[union-attr]
        weight_decay=tuple(each.optimizer.weight_decay for each in settings),  # type: ignore[union-attr]
        l2=tuple(each.l2 for each in penalties),
        l1=tuple(each.l1 for each in penalties),
    )
    stacked = parameters, kernels, rates
    if isinstance(kind, training.SGD):
        return StackedSGD(*stacked, momentum=kind.momentum, nesterov=kind.nesterov)
    if isinstance(kind, training.RMSprop):
        return StackedRMSprop(*stacked, rho=kind.rho, momentum=kind.momentum, eps=kind.eps)
    keras = kind.epsilon_placement == "keras"
    return StackedAdam(*stacked, betas=kind.betas, eps=kind.eps, keras=keras, decoupled=kind.name == "adamw")
