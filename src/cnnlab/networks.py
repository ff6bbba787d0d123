"""The network of a configuration: one of cnnlab's, one of torchvision's, or the user's own, tried before training."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from cnnlab.errors import UsageError, one_line, unknown
from cnnlab.models import NETWORKS
from cnnlab.models.summary import evaluating
from cnnlab.own import called, made
from cnnlab.settings.base import Own
from cnnlab.settings.commands import Training
from cnnlab.settings.model import Model, TorchVision
from cnnlab.settings.training import Regularization

Shape = tuple[int, int, int]


def build_network(model: Model, regularization: Regularization, input_shape: Shape, classes: int) -> nn.Module:
    """Return the network for images [C, H, W]; its dropout rates come from `regularization`.

    Raises UsageError for images that are too small for it, and for whatever a network of the user's own refuses.
    """
    rates = {"conv_dropout": regularization.conv_dropout, "dense_dropout": regularization.dense_dropout}
    if isinstance(model, Own):
        network = made("model", model, nn.Module, "an nn.Module", input_shape=input_shape, classes=classes, **rates)
        answered = called("model", answer, network, input_shape)
        if not isinstance(answered, Tensor) or answered.shape != (2, classes):
            shape = f"the shape {list(answered.shape)}" if isinstance(answered, Tensor) else type(answered).__name__
            raise UsageError(
                f"model._target_={model.target!r} answers two images with {shape}; it takes logits [2, {classes}], "
                "one a class"
            )
        return network
    if isinstance(model, TorchVision):
        return torchvision_network(model.arch, input_shape, classes, rates["dense_dropout"])
    values = {key: value for key, value in model if key not in ("name", "network")}
    try:
        return NETWORKS[model.network](input_shape, classes, **values, **rates)
    except ValueError as error:
        raise UsageError(f"model: {error}: shorten model.filters or lower model.pool_size") from error


def torchvision_network(arch: str, input_shape: Shape, classes: int, dense_dropout: float) -> nn.Module:
    """Return a network of torchvision's; raises UsageError for an unknown one and images that it does not take."""
    from cnnlab.models.published import architectures, published  # torchvision takes seconds to import

    if arch not in (known := architectures()):
        raise UsageError(unknown("model.arch", arch, known))
    size = "x".join(map(str, input_shape))
    try:
        network = published(arch, input_shape, classes, dense_dropout=dense_dropout)
        answer(network, input_shape)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise UsageError(f"model.arch={arch!r} does not take images of {size}: {one_line(error)}") from error
    return network


def adaptation(network: nn.Module, settings: Training, input_shape: Shape) -> str:
    """Return in words how a network of torchvision's was adapted to the images; nothing for any other."""
    if not isinstance(settings.model, TorchVision):
        return ""
    from cnnlab.models.published import description

    rates = settings.regularization.conv_dropout, settings.regularization.dense_dropout
    return f"{settings.model.arch}: {description(network, input_shape, dropout=any(rates))}"


def check_smallest_batch(network: nn.Module, input_shape: Shape, images: int, batch_size: int) -> None:
    """Raise UsageError where batch normalization would have a single value to normalize: that of a batch of one image.

    Such is the last of an epoch's batches where one image is left over.
    """
    if images % batch_size != 1 and batch_size != 1:
        return
    try:
        tried = copy.deepcopy(network).train()  # whose statistics may change
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            tried(torch.zeros(1, *input_shape))
    except Exception as error:  # anything else is the training's to tell
        if "more than 1 value per channel" not in str(error):
            return
        others = [size for size in range(batch_size + 1, images + 1) if images % size != 1]
        such = f", such as {others[0]}" if others else ""
        raise UsageError(
            f"batch_size={batch_size} leaves one of {images} training images for the last batch, and batch "
            f"normalization cannot normalize a single value; batch_size takes another number{such}"
        ) from error


def answer(network: nn.Module, input_shape: Shape) -> object:
    """Return what a network answers to two blank images; it and the random state stay as they were."""
    with evaluating(network), torch.no_grad(), torch.random.fork_rng(devices=[]):
        return network(torch.zeros(2, *input_shape))
