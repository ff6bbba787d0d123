"""From checked settings to data, network, classifier and trainer: builds, seeds nothing, writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn

from cnnlab.choices import settle_precision, settle_way
from cnnlab.classifier import Classifier
from cnnlab.data import LoadData, augmentation, load
from cnnlab.data.drawing import measure_frame
from cnnlab.data.images import ImageData
from cnnlab.data.module import ImageDataModule
from cnnlab.data.pixels import border_brightness
from cnnlab.data.rows import Images, Rows
from cnnlab.data.scaling import Scaling
from cnnlab.data.split import divide
from cnnlab.descent import optimizer_maker, scheduler_maker
from cnnlab.errors import UsageError, collect
from cnnlab.last_checkpoint import LastCheckpoint
from cnnlab.losses import build_loss
from cnnlab.measures import build_measures
from cnnlab.models import trained
from cnnlab.models.compiling import use_kernels
from cnnlab.networks import build_network, check_smallest_batch
from cnnlab.own import called, made
from cnnlab.settings.augmentation import Augmentation, Parts, Unchanged
from cnnlab.settings.base import Own
from cnnlab.settings.commands import Tracking, Trainer, Training
from cnnlab.settings.dataset import Archive, ImageFolder, OwnImages
from cnnlab.settings.description import FORMAT, Description, KeptImages
from cnnlab.settings.read import examine
from cnnlab.stepping import COMPILED
from cnnlab.tracking.logger import EpochLogger
from cnnlab.tracking.schema import Metric
from cnnlab.tracking.store import check_address
from cnnlab.trainer import build_trainer
from cnnlab.watching import build_callbacks, build_loggers, check_steps
from cnnlab.weights import LoadWeights, Start, Weights, begin, load_weights

TRIED_STEPS = 1000  # of a training that a schedule is tried with before it begins


@dataclass(frozen=True)
class Plan:
    """What the settings of a training become."""

    settings: Training
    data: ImageData
    data_module: ImageDataModule
    classifier: Classifier
    trainer: pl.Trainer
    checkpoint: ModelCheckpoint
    last: LastCheckpoint
    logger: EpochLogger
    start: Start
    choices: tuple[str, ...] = ()  # what became of `auto`, and why


def read_training(values: Mapping[str, object], load_data: LoadData = load) -> Training:
    """Return the settings of a resolved configuration.

    Raises UsageError with every problem: of the values, and of the machine where sections without problems meet it.
    """
    examined = examine(Training, values)
    if examined.settings is not None:
        return examined.settings
    problems, sections = examined.problems, examined.sections
    if isinstance(trainer := sections.get("trainer"), Trainer) and not list(trainer.conflicts("")):
        collect(problems, build_trainer, trainer, [], [EpochLogger([])])
    if isinstance(tracking := sections.get("tracking"), Tracking):
        problems += check_address(tracking.uri)
    if isinstance(dataset := sections.get("dataset"), Archive | ImageFolder | OwnImages):
        collect(problems, load_data, dataset)
    raise UsageError(*problems)


def make_plan(
    settings: Training, folder: Path, load_data: LoadData = load, load_weights: LoadWeights = load_weights
) -> Plan:
    """Build data, network, classifier and trainer; `folder` will hold the checkpoints.

    `load_data` and `load_weights` may return what is in memory already. Weights are drawn from torch's generator as it
    is, also where others replace them. Raises UsageError with every problem that can be seen at once: a data set that
    is missing, a batch larger than the data, a network too deep for its images, devices that are not there.
    """
    problems: list[str] = []
    lines: list[str] = []  # what became of `auto`, and why
    data = collect(problems, load_data, settings.dataset)
    if data is not None:
        settings = with_batches(settings, data)
        precision = collect(problems, settle_precision, settings, data)
        if precision is not None:
            settings, lines = precision.settings, [*precision.lines]
    watching = collect(problems, build_callbacks, settings, folder)
    logger = EpochLogger([], folder)
    beside = collect(problems, build_loggers, settings.loggers) or []
    callbacks = watching.callbacks if watching else []
    trainer = collect(problems, build_trainer, settings.trainer, callbacks, [logger, *beside])
    problems += check_address(settings.tracking.uri)
    weights = None
    if settings.init_from is not None:
        weights = collect(problems, load_weights, str(settings.init_from), settings.tracking.uri)
    data_module = built = None
    if data is not None:
        data_module = collect(problems, build_data_module, settings, data)
        if data_module is not None and trainer is not None:
            collect(problems, data_module.check_shares, trainer.num_devices * trainer.num_nodes)
            collect(problems, check_steps, settings, -(-len(data_module.train_index) // settings.batch_size))
        train_images = data.train_images if data_module is None else Rows(data.train_images, data_module.train_index)
        images = kept_images(data, data_module) if data_module else None
        built = collect(problems, build_classifier, settings, data, train_images, images, weights)
    if built:
        way = collect(problems, settle_way, settings, built[0].network)
        if way is not None:
            settings, lines = way.settings, [*lines, *way.lines]
    if built and data and data_module and trainer and trainer.num_devices * trainer.num_nodes == 1:
        sizes = len(data_module.train_index), settings.batch_size
        collect(problems, check_smallest_batch, built[0].network, data.input_shape, *sizes)
    if problems:
        raise UsageError(*problems)
    assert data and data_module and built and trainer and watching
    classifier, start = built
    if settings.trainer.compile == "kernels":
        use_kernels(classifier.network)
    classifier.compile_step = COMPILED.get(settings.trainer.compile)
    if settings.dataset.balance == "weights":
        classifier.class_weights = class_weights(data.train_labels[data_module.train_index], data.classes)
    best, last = watching.best, watching.last
    return Plan(settings, data, data_module, classifier, trainer, best, last, logger, start, tuple(lines))


def with_batches(settings: Training, data: ImageData) -> Training:
    """Return the settings with batches no larger than a user's own images allow, unless the command chose a size."""
    if isinstance(settings.dataset, Archive) or settings.batch_size != settings.dataset.batch_size:
        return settings
    images = max(1, len(divide(data, settings.dataset.validation)[0]))
    return settings.model_copy(update={"batch_size": min(settings.batch_size, images)})


def build_data_module(settings: Training, data: ImageData) -> ImageDataModule:
    """Split the data and cut it into batches; raises UsageError where it cannot be cut so."""
    train_index, validation_index = divide(data, settings.dataset.validation)
    sizes = settings.batch_size, settings.evaluation_batch_size
    balanced = settings.dataset.balance == "sampler"
    return ImageDataModule(data, train_index, validation_index, *sizes, settings.seed, balanced=balanced)


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """Return n / (classes * images of the class) for each class, float32 [classes]; 1 in the mean over all images."""
    counts = torch.bincount(labels, minlength=classes).clamp(min=1)
    return len(labels) / (classes * counts.float())


def kept_images(data: ImageData, data_module: ImageDataModule) -> KeptImages | None:
    """Return which images are in which split, where they have keys."""
    if not data.train_keys:
        return None
    indices = data_module.train_index, data_module.validation_index
    train, validation = (tuple(data.train_keys[place] for place in index) for index in indices)
    return KeptImages(train=train, val=validation, test=data.test_keys)


def build_classifier(
    settings: Training,
    data: ImageData,
    train_images: Images,
    images: KeptImages | None = None,
    weights: Weights | None = None,
) -> tuple[Classifier, Start]:
    """Build the network for the data's shape and classes, and the LightningModule around it.

    The network begins with those of the `weights` that fit, and is frozen where the settings say so. The scaling is
    fitted to `train_images`, uint8 [N, C, H, W], alone. Raises UsageError for everything the network, the weights, the
    optimizer or the scheduler refuses.
    """
    problems: list[str] = []
    network = collect(problems, build_network, settings.model, settings.regularization, data.input_shape, data.classes)
    start = None
    if network is not None:
        start = collect(problems, begin, network, weights, settings.freeze, settings.dataset.scaling)
    make_optimizer = collect(problems, optimizer_maker, settings.optimizer)
    monitor = settings.callbacks.checkpoint.monitor or Metric.TRAIN_LOSS
    make_scheduler = collect(problems, scheduler_maker, settings.scheduler, monitor)
    if network is not None and make_optimizer is not None:
        optimizer = collect(problems, called, "optimizer", make_optimizer, trained(network))
        if optimizer is not None and make_scheduler is not None:
            collect(problems, called, "scheduler", make_scheduler, optimizer, TRIED_STEPS)
    changes = collect(problems, build_augmentation, settings.augmentation, data.classes)
    loss = targets = None
    if isinstance(settings.augmentation, Own) or isinstance(settings.loss, Own):
        targets = collect(problems, example_targets, changes, data)
    if targets is not None:
        loss = collect(problems, build_loss, settings.loss, data.classes, targets)
    measures = collect(problems, build_measures, settings.metrics, data.classes)
    scaling = Scaling.fit(settings.dataset.scaling, train_images)
    if problems:
        raise UsageError(*problems)
    assert network is not None and start is not None
    border = border_brightness(train_images)
    frame = measure_frame(train_images, border)
    description = Description(
        format=FORMAT,
        dataset=settings.dataset,
        model=settings.model,
        regularization=settings.regularization,
        input_shape=data.input_shape,
        class_names=data.class_names,
        images=images,
        settings=settings.digest(start.digest),
        loss="own" if isinstance(settings.loss, Own) else "cross_entropy",
        frame=astuple(frame) if frame else None,
        border=border,
    )
    parts = (scaling, network, settings.regularization, make_optimizer, make_scheduler, description.plain())
    return Classifier(*parts, changes, measures, loss), start


def example_targets(changes: nn.Module | None, data: ImageData) -> Tensor:
    """Return the targets of a few images as training has them: labels [N], or shares [N, classes] where it blends.

    Raises UsageError for an augmentation that returns anything but such images and targets.
    """
    images, labels = data.train_images[:8], data.train_labels[:8]
    if changes is None:
        return labels
    with torch.random.fork_rng(devices=[]):
        changed: object = called("augmentation", changes, images, labels)
    if isinstance(changed, tuple) and len(changed) == 2 and all(isinstance(part, Tensor) for part in changed):
        if changed[0].shape == images.shape and len(changed[1]) == len(labels):
            return changed[1]
        what = f"the shapes {list(changed[0].shape)} and {list(changed[1].shape)}"
    else:
        what = type(changed).__name__
    raise UsageError(
        f"augmentation: it returns {what} for images {list(images.shape)}; it takes (images, targets), images of the "
        "same shape and as many targets"
    )


def build_augmentation(settings: Augmentation, classes: int) -> nn.Module | None:
    """Return the augmentation for a number of classes; None where it changes nothing."""
    if isinstance(settings, Own):
        return made("augmentation", settings, nn.Module, "an nn.Module", classes=classes)
    if isinstance(settings, Unchanged):
        return None
    if isinstance(settings, Parts):
        sections = [getattr(settings, name) for name in settings.parts]
        return augmentation.Parts([augmentation.KINDS[part.name](classes, **part.options()) for part in sections])
    return augmentation.KINDS[settings.name](classes, **settings.options())
