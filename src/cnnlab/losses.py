"""A loss of the user's own: what training minimizes in place of the cross-entropy."""

from __future__ import annotations

import functools
import inspect

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnlab.errors import UsageError
from cnnlab.own import Maker, asked, called, own
from cnnlab.settings.base import Own
from cnnlab.settings.training import Loss


class OwnLoss:
    """A user's own loss over a batch, called with float32 logits [B, classes] and the targets of the cross-entropy.

    No part of the classifier's modules, and so of no checkpoint: it has buffers perhaps, class weights, but nothing to
    learn. Raises UsageError for parameters.
    """

    def __init__(self, target: str, call: Maker):
        self.target = target
        self.call = call
        self.device: torch.device | None = None
        if isinstance(call, nn.Module) and (learned := [name for name, _ in call.named_parameters()]):
            raise UsageError(f"loss._target_={target!r} has parameters ({learned[0]}), which nothing would train")

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch; targets are labels [B], or shares of the classes [B, classes]."""
        if isinstance(self.call, nn.Module) and self.device != logits.device:
            self.call.to(logits.device)
            self.device = logits.device
        value = self.call(logits.float(), targets)
        assert isinstance(value, Tensor)
        return value

    def check(self, targets: Tensor, classes: int) -> None:
        """Try the loss on such targets; raises UsageError for what it cannot take, and for anything but one number."""
        logits = torch.zeros(len(targets), classes, requires_grad=True)
        value = called("loss", self.call, logits, targets)
        shown = f"the shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        if not isinstance(value, Tensor) or value.dim() != 0:
            raise UsageError(
                f"loss._target_={self.target!r} returns {shown}; it takes a tensor of one number, the mean"
            )
        if not value.requires_grad:
            raise UsageError(
                f"loss._target_={self.target!r} does not depend on the logits, so nothing would be learned"
            )


def build_loss(settings: Loss, classes: int, targets: Tensor) -> OwnLoss | None:
    """Return the user's own loss after trying it on such targets as training will give it; None for cross-entropy.

    A class is made first, of its arguments, and its object is called; a function is called with its arguments as well.
    Both are given `classes` if they ask for it. Raises UsageError for what cannot be called.
    """
    if not isinstance(settings, Own):
        return None
    given = own("loss", settings)
    loss = OwnLoss(settings.target, _callable(settings.target, given, asked(given, classes=classes)))
    loss.check(targets, classes)
    return loss


def _callable(target: str, given: Maker, offers: dict[str, object]) -> Maker:
    function = given.func if isinstance(given, functools.partial) else given
    if not inspect.isclass(function):
        return functools.partial(given, **offers) if offers else given
    made = called("loss", given, **offers)
    if not callable(made):
        raise UsageError(f"loss._target_={target!r} makes a {type(made).__name__}, which cannot be called")
    return made


def fitted(
    loss: OwnLoss | None,
    logits: Tensor,
    targets: Tensor,
    mean: Tensor,
    label_smoothing: float,
    weights: Tensor | None = None,
) -> Tensor:
    """Return what training minimizes beside the penalties; `mean` is the cross-entropy, which is there already.

    `weights` [classes] multiply each image's part by its class'. It is divided by the number of images: weights that
    are 1 in the mean over all images change no scale, whatever a batch holds.
    """
    if loss is not None:
        return loss(logits, targets)
    if weights is not None:
        summed = F.cross_entropy(
            logits, targets, weights.to(logits.dtype), reduction="sum", label_smoothing=label_smoothing
        )
        return summed / len(logits)
    return F.cross_entropy(logits, targets, label_smoothing=label_smoothing) if label_smoothing else mean
