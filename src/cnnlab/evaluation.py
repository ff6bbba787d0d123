"""A trained classifier measured on one split, dropout off: metrics, per-class table, pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich import box
from rich.table import Table
from torch import Tensor

from cnnlab.classifier import Classifier
from cnnlab.config import resolve
from cnnlab.console import console, show_closing
from cnnlab.data import load
from cnnlab.data.batches import Batches
from cnnlab.data.images import ImageData
from cnnlab.errors import UsageError, unknown
from cnnlab.figures.draw import draw_all
from cnnlab.metrics import SPLITS
from cnnlab.plan import build_batches
from cnnlab.predictions import PER_CLASS, Predictions, class_metrics, metric_names
from cnnlab.saved import Saved, find_saved

MOST_CLASSES_SHOWN = 50


def evaluate(config: DictConfig) -> dict[str, float]:
    """Measure what `run` or `checkpoint` names on `split`; print the metrics, write the pictures, return the metrics.

    Raises UsageError for a run, checkpoint, split or dataset that is not there.
    """
    values = resolve(config)
    folder = Path(HydraConfig.get().runtime.output_dir)
    split = values["split"]
    if split not in SPLITS:
        raise UsageError(unknown("split", split, SPLITS))
    saved = find_saved(values)
    data = load_data(saved, values.get("dataset"))
    images, labels = split_of(data, saved.config, split)
    metrics, predictions = measure(saved.classifier, images, labels, split, values["batch_size"])
    metrics |= class_metrics(predictions, saved.class_names, split)

    source = f"run {saved.run_id}" if saved.run_id else str(saved.checkpoint)
    console.print(
        f"{data.name}: {len(labels):,} {split} images; {source}, checkpoint of epoch {saved.epoch}",
        soft_wrap=True,
    )
    headline = [name for name in metrics if name.count("/") == 1]
    if len(saved.class_names) <= MOST_CLASSES_SHOWN:
        console.print(class_table(metrics, predictions, saved.class_names, split))
    rows = {name: f"{metrics[name]:.4f}" for name in headline}
    if values["figures"]["enabled"]:
        rows["figures"] = str(folder / "figures")
        network, scaling = saved.classifier.network, saved.classifier.scaling
        described = (values["figures"], scaling, network, saved.class_names, images.cpu(), predictions, split)
        for note in draw_all(folder / "figures", *described, saved.history, saved.epoch):
            console.print(note, soft_wrap=True)
    show_closing(rows)
    return metrics


def load_data(saved: Saved, chosen: Mapping[str, Any] | None) -> ImageData:
    """Load the dataset the classifier was trained on, from where `chosen`, a dataset section, has it if it is there.

    Raises UsageError for another dataset, and for one whose images or classes do not fit the network any more.
    """
    section = dict(saved.config["dataset"])
    if chosen is not None:
        if chosen["name"] != section["name"]:
            raise UsageError(f"dataset={chosen['name']}: this classifier was trained on dataset={section['name']}")
        # A folder of the default's name that does not exist is no reason to leave the one the run has used.
        given = {key: chosen[key] for key in ("root", "path") if chosen.get(key) is not None}
        section |= {key: value for key, value in given.items() if Path(value).expanduser().is_dir()}
    data = load(section)
    if data.input_shape != saved.input_shape or data.class_names != saved.class_names:
        raise UsageError(
            f"dataset={section['name']} has changed since the training: images {list(data.input_shape)} of "
            f"{data.classes} classes now, {list(saved.input_shape)} of {len(saved.class_names)} then"
        )
    return data


def split_of(data: ImageData, config: Mapping[str, Any], split: str) -> tuple[Tensor, Tensor]:
    """Return the images and labels of a split, cut as the training cut it; raises UsageError where it is empty."""
    if split == "test":
        return data.test_images, data.test_labels
    batches = build_batches(config, data)
    index = batches.train_index if split == "train" else batches.validation_index
    if len(index) == 0:
        raise UsageError("split='val' is empty: this run trained without validation; allowed: train, test")
    return data.train_images[index], data.train_labels[index]


@torch.inference_mode()
def measure(
    classifier: Classifier, images: Tensor, labels: Tensor, split: str, batch_size: int
) -> tuple[dict[str, float], Predictions]:
    """Return loss, accuracy and objective named `split/...`, and every prediction: what a run's own test computes.

    Runs on the GPU if there is one; the classifier is back on the CPU afterwards.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    classifier.to(device).eval()
    batches = Batches(images.to(device), labels.to(device), batch_size, shuffle=False, seed=0)
    for index, batch in enumerate(batches):
        classifier.test_step(batch, index)
    sums = classifier.sums("test").compute()
    classifier.sums("test").reset()
    predictions = classifier.collector.predictions()
    classifier.cpu()
    return {f"{split}/{name}": float(value) for name, value in sums.items()}, predictions


def class_table(
    metrics: Mapping[str, float], predictions: Predictions, class_names: tuple[str, ...], split: str
) -> Table:
    """Return one row a class: images, precision, recall and F1."""
    table = Table("class", box=box.HORIZONTALS, pad_edge=False, show_edge=False)
    for heading in ("images", *PER_CLASS):
        table.add_column(heading, justify="right")
    counts = predictions.confusion.sum(dim=1).tolist()
    for name, key, count in zip(class_names, metric_names(class_names), counts, strict=True):
        table.add_row(name, f"{count:,}", *(f"{metrics[f'{split}/{measure}/{key}']:.4f}" for measure in PER_CLASS))
    return table
