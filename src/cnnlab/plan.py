"""Everything a run needs, built and checked before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, WeightAveraging
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from cnnlab import config as configuration
from cnnlab.classifier import Classifier
from cnnlab.console import EpochBar, console
from cnnlab.data import load
from cnnlab.data.images import ImageData
from cnnlab.data.module import InMemoryData
from cnnlab.data.pixels import border_brightness
from cnnlab.data.scaling import Scaling
from cnnlab.data.split import split
from cnnlab.errors import UsageError, collect
from cnnlab.metrics import monitors
from cnnlab.tracking.logger import EpochLogger
from cnnlab.tracking.store import check_address
from cnnlab.trainer import build_trainer


@dataclass(frozen=True)
class Plan:
    """What a checked configuration becomes."""

    data: ImageData
    batches: InMemoryData
    classifier: Classifier
    trainer: pl.Trainer
    checkpoint: ModelCheckpoint
    logger: EpochLogger


def make_plan(
    config: Mapping[str, Any], folder: Path, load_data: Callable[[Mapping[str, Any]], ImageData] = load
) -> Plan:
    """Build data, network, classifier and trainer of a resolved configuration; `folder` will hold the checkpoints.

    `load_data` may return images that are in memory already. Nothing is written. Raises UsageError with every problem
    that can be seen at once: values out of range, a data set that is missing, a batch larger than the data, a network
    too deep for its images, devices that are not there.
    """
    problems = configuration.check(config)
    if problems and any(line.endswith(" is missing") for line in problems):
        raise UsageError(*problems)
    if not problems:
        pl.seed_everything(config["seed"], workers=True, verbose=False)  # before the first weight is drawn
        # A penalty drives unused kernels to numbers below 1e-38, which a CPU multiplies in microcode: late epochs of
        # experiment=mnist_deep_cnn took twice as long. Threads that torch starts later flush them to zero too.
        torch.set_flush_denormal(True)
    checkpoint, callbacks = build_callbacks(config, folder) if not problems else (None, [])
    logger = EpochLogger([])
    trainer = collect(problems, build_trainer, config["trainer"], callbacks=callbacks, logger=logger)
    problems += check_address(config["tracking"]["uri"]) if isinstance(config["tracking"]["uri"], str) else []
    data = collect(problems, load_data, config["dataset"])
    batches = classifier = None
    if data is not None:
        found: list[str] = []
        batches = collect(found, build_batches, config, data) if isinstance(config["batch_size"], int) else None
        classifier = collect(found, build_classifier, config, data, batches)
        problems += news(found, problems)
    if problems:
        raise UsageError(*problems)
    assert data and batches and classifier and trainer and checkpoint
    return Plan(data, batches, classifier, trainer, checkpoint, logger)


def news(found: list[str], known: list[str]) -> list[str]:
    """Return the lines that say more than the known ones: a value out of range is refused once, by its key."""
    keys = {line.split("=")[0] for line in known}
    sections = {f"{key.split('.')[0]}:" for key in keys}
    return [line for line in found if line.split("=")[0] not in keys and line.split()[0] not in sections]


def build_batches(config: Mapping[str, Any], data: ImageData) -> InMemoryData:
    """Split the data and cut it into batches; raises UsageError where it cannot be cut so."""
    validation = config["dataset"]["validation"]
    train_index, validation_index = split(
        data.train_labels, validation["method"], validation["fraction"], validation["seed"]
    )
    sizes = config["batch_size"], config["evaluation_batch_size"]
    return InMemoryData(data, train_index, validation_index, *sizes, config["seed"])


def build_classifier(config: Mapping[str, Any], data: ImageData, batches: InMemoryData | None) -> Classifier:
    """Build the network for the data's shape and classes, and the LightningModule around it.

    The scaling is fitted to the training split alone. Raises UsageError for everything the network, the optimizer or
    the scheduler refuses.
    """
    problems: list[str] = []
    network = collect(problems, build_network, config, data.input_shape, data.classes)
    make_optimizer = collect(problems, build_partial, "optimizer", config["optimizer"])
    make_scheduler = collect(problems, build_partial, "scheduler", config["scheduler"])
    if network is not None and make_optimizer is not None:
        collect(problems, _try_optimizer, make_optimizer, network)
    train_images = data.train_images if batches is None else data.train_images[batches.train_index]
    augmentation = collect(problems, build_augmentation, config["augmentation"], data.classes)
    scaling = collect(problems, Scaling.fit, config["dataset"]["scaling"], train_images)
    if problems:
        raise UsageError(*problems)
    description = {
        "config": dict(config),
        "input_shape": list(data.input_shape),
        "class_names": list(data.class_names),
        "border": border_brightness(train_images),
    }
    parts = (scaling, network, config["regularization"], make_optimizer, make_scheduler, description)
    return Classifier(*parts, augmentation)


def build_network(config: Mapping[str, Any], input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Instantiate the `model` section for images [C, H, W]; its dropout rates come from `regularization`."""
    settings = {key: value for key, value in config["model"].items() if key != "name"}
    dropout = {key: config["regularization"][key] for key in ("conv_dropout", "dense_dropout")}
    return _instantiate("model", settings, input_shape=input_shape, classes=classes, **dropout)


def build_augmentation(settings: Mapping[str, Any], classes: int) -> nn.Module | None:
    """Instantiate the `augmentation` section for a number of classes; None where it changes nothing."""
    if "_target_" not in settings:
        return None
    named = {key: value for key, value in settings.items() if key != "name"}
    return _instantiate("augmentation", named, classes=classes)


def build_partial(section: str, settings: Mapping[str, Any]) -> Any:
    """Return the section's `_target_` with its values bound, waiting for its first arguments; None without one."""
    if "_target_" not in settings:
        return None
    return _instantiate(section, {key: value for key, value in settings.items() if key != "name"}, _partial_=True)


def build_callbacks(config: Mapping[str, Any], folder: Path) -> tuple[ModelCheckpoint, list[pl.Callback]]:
    """Return the best-checkpoint callback, and all callbacks: those that watch a metric and, on a terminal, the bar."""
    settings = config["callbacks"]
    watched = settings["checkpoint"]["monitor"]
    has_validation = config["dataset"]["validation"]["fraction"] > 0
    named_loss = "val_loss_{val/loss:.4f}" if has_validation else "train_loss_{train/loss:.4f}"
    checkpoint = ModelCheckpoint(
        dirpath=folder / "checkpoints",
        filename=f"epoch_{{epoch:02d}}-{named_loss}",  # no "=": a command line would have to quote it
        auto_insert_metric_name=False,
        monitor=watched,
        mode=monitors().get(watched, "min"),
        save_on_train_epoch_end=True,
    )
    callbacks: list[pl.Callback] = [checkpoint]
    if (decay := settings["ema_decay"]) is not None:
        callbacks.append(WeightAveraging(multi_avg_fn=get_ema_multi_avg_fn(decay)))
    if console.is_terminal:
        callbacks.append(EpochBar())
    if stopping := settings["early_stopping"]:
        mode = monitors()[stopping["monitor"]]
        callbacks.append(EarlyStopping(stopping["monitor"], patience=stopping["patience"], mode=mode))
    return checkpoint, callbacks


def _instantiate(section: str, settings: Mapping[str, Any], **arguments: Any) -> Any:
    try:
        return instantiate(dict(settings), **arguments, _convert_="all")
    except UsageError:
        raise
    except Exception as error:
        # Hydra wraps what a constructor raises; the user wants the constructor's own words.
        cause = error.__cause__ or error
        if isinstance(cause, UsageError):
            raise cause from None
        raise UsageError(f"{section}: {str(cause).splitlines()[0]}") from error


def _try_optimizer(make_optimizer: Any, network: nn.Module) -> None:
    try:
        make_optimizer(network.parameters())
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"optimizer: {str(error).splitlines()[0]}") from error
