"""A trained classifier measured on one split, dropout off: metrics, per-class table, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch
import torch.nn.functional as F
from rich import box
from rich.table import Table
from torch import Tensor

from cnnlab import process
from cnnlab.checkpoint import Saved, asked_of
from cnnlab.classifier import Classifier
from cnnlab.console import console, show_closing
from cnnlab.data import load
from cnnlab.data.images import ImageData, digest
from cnnlab.data.rows import Images
from cnnlab.ensemble import accuracy_of, averaged, describe_members, find_members, keep_members, settings_of
from cnnlab.errors import UsageError, refused
from cnnlab.figures.draw import Subject, draw_all
from cnnlab.job import Job
from cnnlab.kept_predictions import predict
from cnnlab.kept_split import common_split, describe_change
from cnnlab.losses import fitted
from cnnlab.measures import build_measures
from cnnlab.metrics import PER_CLASS, Predictions, class_metrics
from cnnlab.settings.dataset import ImageFolder, OwnImages
from cnnlab.settings.read import read
from cnnlab.settings.trained import Choice, Evaluation
from cnnlab.settings.training import Metrics
from cnnlab.tracking.ledger import Reading, record
from cnnlab.tracking.schema import Tag
from cnnlab.tracking.stale import tell_stale_runs
from cnnlab.tracking.tracked_run import TrackedRun, tracked_run

MOST_CLASSES_SHOWN = 50


def evaluate(job: Job) -> dict[str, float]:
    """Measure what `run` or `checkpoint` names on `split`; print the metrics, write the pictures, return the metrics.

    Several runs are measured as one, their probabilities averaged, and so are the views of each image that `tta` names.
    Pictures, and of several runs who they are, go to `job.folder`. Raises UsageError for a run, checkpoint, split or
    dataset that is not there, and for runs that do not answer the same question.
    """
    process.begin()
    settings = asked_of(Evaluation, job)
    split = settings.split
    members = find_members(settings)
    if settings.run is not None:
        tell_stale_runs(settings.tracking.uri)
    saved = members[0]
    opened = [run for member in members if (run := seal_to_open(member, settings)) is not None]
    sealed = any(member.description.dataset.sealed for member in members)
    data = load_data(saved, settings.dataset, sealed=sealed and split != "test")
    images, labels = common_split(members, data, split)
    if change := describe_change(data, saved.description.images):
        console.print(change, soft_wrap=True, markup=False)
    if split == "test":
        keep_reading(settings, members, data, (images, labels), opened)
    several, notes = len(members) > 1, []
    if several or settings.tta != "none":
        together = averaged(members, images, labels, settings.tta, settings.batch_size)
        metrics, predictions = together.metrics(split), together.predictions
        notes = describe_members(members, together, settings)
    else:
        metrics, predictions = measure(saved.classifier, images, labels, split, settings.batch_size)
        if saved.description.loss == "own":  # which this command does not have
            del metrics[f"{split}/objective"]
    by_class = class_metrics(predictions, saved.class_names, split)
    others = tuple(item for item in settings.metrics if f"{split}/{item}" not in by_class)
    metrics |= chosen_metrics(others, predictions, len(saved.class_names), split) | by_class

    source = f"run {saved.run_id}" if saved.run_id else str(saved.checkpoint)
    who = f"an ensemble of {len(members)}" if several else f"{source}, checkpoint of epoch {saved.epoch}"
    for line in (f"{data.name}: {len(labels):,} {split} images; {who}", *notes):
        console.print(line, soft_wrap=True, markup=False)
    for run in opened:
        if several or settings.tta != "none":
            console.print(f"the test split of run {run.run_id} was sealed until now", soft_wrap=True)
        else:
            run.log_results({name: value for name, value in metrics.items() if name.count("/") == 1})
            console.print("its test split was sealed until now; the run keeps what it reached", soft_wrap=True)
    if len(saved.class_names) <= MOST_CLASSES_SHOWN:
        console.print(class_table(predictions, saved.class_names))
    rows = {name: f"{value:.4f}" for name, value in metrics.items() if name.count("/") == 1}
    if several:
        rows["members"] = str(keep_members(job.folder, members, together, settings, metrics))
    if settings.figures.enabled:
        rows["figures"] = str(job.folder / "figures")
        subject = Subject(
            scaling=saved.classifier.scaling,
            network=None if several else saved.classifier.network,
            class_names=saved.class_names,
            images=images,
            predictions=predictions,
            split=split,
            history={} if several else saved.history,
            best_epoch=saved.epoch,
            signature=f"{data.name}, {who}",
        )
        for note in draw_all(job.folder / "figures", settings.figures, subject):
            console.print(note, soft_wrap=True)
    show_closing(rows)
    return metrics


def chosen_metrics(chosen: Metrics, predictions: Predictions, classes: int, split: str) -> dict[str, float]:
    """Return the chosen metrics of predictions, named `split/...`; raises UsageError for those there cannot be."""
    measures = build_measures(chosen, classes)
    if measures is None:
        return {}
    measures.update(predictions.logits, predictions.labels)
    return {f"{split}/{name}": float(value) for name, value in measures.compute().items()}


def keep_reading(
    settings: Evaluation,
    members: Sequence[Saved],
    data: ImageData,
    split: tuple[Images, Tensor],
    opened: Sequence[TrackedRun],
) -> None:
    """Let the ledger know, before the test split is read, and the runs whose seal is `opened`.

    Several members are one reader, of settings of its own, kept with the first of them.
    """
    reading = Reading(
        "evaluate", data.name, data.digest, digest(*split), len(split[1]), settings_of(members, settings.tta)
    )
    if said := record(settings.tracking.uri, members[0].run_id, reading, unseals=bool(opened)):
        console.print(said, soft_wrap=True, markup=False)
    for run in opened:
        run.set_tags({Tag.UNSEALED: datetime.now(UTC).isoformat(timespec="seconds")})


def load_data(saved: Saved, chosen: Choice | None, *, sealed: bool = False) -> ImageData:
    """Load the dataset the classifier was trained on, from where `chosen`, a dataset section, has it if it is there.

    Its test split is read unless it is `sealed`. Raises UsageError for another dataset, and for one whose images or
    classes do not fit the network any more.
    """
    dataset = saved.description.dataset
    if isinstance(dataset, OwnImages):
        dataset = known_images(dataset, chosen)
    elif chosen is not None:
        moved = isinstance(dataset, ImageFolder) and chosen.get("path") is not None
        if chosen.name != dataset.name and not moved:
            raise UsageError(f"dataset={chosen.name}: this classifier was trained on dataset={dataset.name}")
        # A folder of the default's name that does not exist is no reason to leave the one the run has used.
        given = {key: str(chosen.get(key)) for key in ("root", "path") if chosen.get(key) is not None}
        here = {key: value for key, value in given.items() if Path(value).expanduser().is_dir()}
        dataset = dataset.model_copy(update={**here, **_download(chosen)})
        if isinstance(dataset, ImageFolder):
            dataset = dataset.model_copy(update=_memory_limit(chosen))
    if isinstance(dataset, ImageFolder):  # as the training read them, whatever `auto` would say today
        channels, height, width = saved.input_shape
        dataset = dataset.model_copy(update={"channels": channels, "image_size": (height, width)})
    data = load(dataset.model_copy(update={"sealed": sealed}))
    if data.input_shape != saved.input_shape or data.class_names != saved.class_names:
        raise UsageError(
            f"dataset={dataset.name} has changed since the training: images {list(data.input_shape)} of "
            f"{data.classes} classes now, {list(saved.input_shape)} of {len(saved.class_names)} then"
        )
    return data


def seal_to_open(saved: Saved, settings: Evaluation) -> TrackedRun | None:
    """Return the run whose sealed test split this command opens, if it does."""
    sealed = saved.description.dataset.sealed
    run = tracked_run(settings.tracking.uri, saved.run_id) if saved.run_id and sealed else None
    one = f"run={settings.run}" if settings.checkpoint is None else f"checkpoint={settings.checkpoint}"
    named = f"run={saved.run_id}" if settings.several else one
    return run if check_seal(sealed, run, named, settings) else None


def check_seal(sealed: bool, run: TrackedRun | None, named: str, settings: Evaluation) -> bool:
    """Return whether this command opens a sealed test split; one that was opened once is as any other.

    Raises UsageError for a sealed test split that the command does not unseal, and where there is no seal to open.
    """
    if settings.unseal and not sealed:
        raise UsageError(f"unseal=true: {named} was trained with dataset.sealed=false, its test split is not sealed")
    if settings.split != "test" or not sealed or (run is not None and Tag.UNSEALED in run.tags):
        return False
    if not settings.unseal:
        raise UsageError(
            f"{named} was trained with dataset.sealed=true: its test split is sealed; split=val measures validation, "
            "unseal=true opens the test split, once and for all"
        )
    return True


def _download(chosen: Choice) -> dict[str, bool]:
    """Return whether missing archives are fetched, where the command says so."""
    value = chosen.get("download")
    if value is None or isinstance(value, bool):
        return {} if value is None else {"download": value}
    raise UsageError(refused("dataset.download", value, "true or false"))


def _memory_limit(chosen: Choice) -> dict[str, int]:
    """Return how much of the memory the images may take, where the command says so."""
    value = chosen.get("memory_limit")
    if value is None:
        return {}
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return {"memory_limit": value}
    raise UsageError(refused("dataset.memory_limit", value, "a whole number of at least 0"))


def known_images(described: OwnImages, chosen: Choice | None) -> OwnImages:
    """Return the section of a user's own images as the command gives it; what a checkpoint says is called by nobody.

    Raises UsageError where the command names no code, or other code; its arguments may differ: images move.
    """
    given = chosen.plain() if chosen else {}
    wanted = {"name": described.name, "_target_": described.target}
    if different := [key for key, value in wanted.items() if given.get(key) != value]:
        key = different[-1]
        raise UsageError(
            f"this classifier was trained on somebody's own images, dataset.{key}={wanted[key]!r}; if you trust that "
            "code, name it again: dataset=NAME (with --config-dir, if it lies in your own folder)"
        )
    return read(OwnImages, given, "dataset.")


@torch.inference_mode()
def measure(
    classifier: Classifier, images: Images, labels: Tensor, split: str, batch_size: int
) -> tuple[dict[str, float], Predictions]:
    """Return loss, accuracy and objective named `split/...`, and every prediction: what a run's own test computes.

    In float32, as a run's test is whatever `trainer.precision` it was trained with.
    """
    predictions = predict(classifier, images, labels, batch_size)
    logits = predictions.logits.double()
    loss = F.cross_entropy(logits, predictions.labels)
    objective = fitted(classifier.loss, logits, predictions.labels, loss, classifier.label_smoothing)
    measured = {
        "loss": float(loss),
        "acc": accuracy_of(predictions.predicted, predictions.labels),
        "objective": float(objective + classifier.penalty()),
    }
    return {f"{split}/{name}": value for name, value in measured.items()}, predictions


def class_table(predictions: Predictions, class_names: Sequence[str]) -> Table:
    """Return one row a class: images, precision, recall and F1."""
    table = Table("class", box=box.HORIZONTALS, pad_edge=False, show_edge=False)
    for heading in ("images", *PER_CLASS):
        table.add_column(heading, justify="right")
    measures = zip(*predictions.class_measures.values(), strict=True)
    for name, count, values in zip(class_names, predictions.images_per_class, measures, strict=True):
        table.add_row(name, f"{count:,}", *(f"{value:.4f}" for value in values))
    return table
