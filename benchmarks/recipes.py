"""What is trained: published recipes, each as train.py takes it, told to the other contestants in plain values."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.machine import ROOT
from cnnlab.data import load
from cnnlab.data.split import divide
from cnnlab.job import compose_job
from cnnlab.plan import read_training
from cnnlab.settings.read import resolve

SPLIT = ("dataset.validation.method=last", "dataset.validation.fraction=0.1")
UNWATCHED = ("callbacks.checkpoint.monitor=null", "callbacks.early_stopping=null")


@dataclass(frozen=True)
class Recipe:
    """The overrides of train.py, and how many epochs of each contestant are counted unless the command says it."""

    overrides: tuple[str, ...]
    epochs: int


RECIPES = {
    "deep_cnn": Recipe(("experiment=mnist_deep_cnn",), 3),
    "simple_cnn": Recipe(("experiment=mnist_simple_cnn",), 3),
    # Its own validation is a random fifth: taken as the others', so that all train on 54,000 images.
    "fashion_cnn": Recipe(("experiment=fashion_cnn", *SPLIT, *UNWATCHED), 3),
    "dnn": Recipe(("experiment=mnist_dnn",), 21),
}


@dataclass(frozen=True)
class Task:
    """A recipe for whoever has no cnnlab: two numpy files, and the values that make network, penalty and optimizer."""

    name: str
    dataset: str
    images: str  # uint8 [N, H, W]
    labels: str  # int64 [N]
    count: int
    classes: int
    scale: float  # of the pixels
    filters: list[int]
    kernel_size: int
    padding: str
    pool_size: int
    conv_initializer: str
    dense_initializer: str
    hidden_units: list[int]
    conv_dropout: float
    dense_dropout: float
    l2: float
    batch_size: int
    lr: float
    eps: float
    threads: int
    device: str
    workers: int = 2  # processes of a DataLoader


def write_task(name: str, overrides: list[str], folder: Path, threads: int, device: str) -> tuple[Path, dict]:
    """Write a recipe's training images and the file that tells all about it; return that, and what a table says."""
    settings = read_training(resolve(compose_job("train", overrides).config))
    data = load(settings.dataset)
    index = divide(data, settings.dataset.validation)[0]
    files = {part: folder / f"{part}.npy" for part in ("images", "labels")}
    np.save(files["images"], data.train_images[index].squeeze(1).numpy())
    np.save(files["labels"], data.train_labels[index].numpy())
    convolutional = settings.model.network == "convnet"
    task = Task(
        name=name,
        dataset=settings.dataset.name,
        images=str(files["images"]),
        labels=str(files["labels"]),
        count=len(index),
        classes=data.classes,
        scale={"raw": 1.0, "unit": 1 / 255}[settings.dataset.scaling],
        filters=list(settings.model.filters) if convolutional else [],
        kernel_size=settings.model.kernel_size if convolutional else 0,
        padding=settings.model.padding if convolutional else "same",
        pool_size=settings.model.pool_size if convolutional else 0,
        conv_initializer=settings.model.conv_initializer if convolutional else "",
        dense_initializer=settings.model.dense_initializer,
        hidden_units=list(settings.model.hidden_units),
        conv_dropout=settings.regularization.conv_dropout,
        dense_dropout=settings.regularization.dense_dropout,
        l2=settings.regularization.l2,
        batch_size=settings.batch_size,
        lr=settings.optimizer.lr,
        eps=settings.optimizer.eps,
        threads=threads,
        device=device,
    )
    file = folder / "task.json"
    file.write_text(json.dumps(asdict(task), indent=1), encoding="utf-8")
    return file, {"dataset": task.dataset, "images": task.count, "batch_size": task.batch_size}


def train_command(overrides: list[str], device: str) -> list[str]:
    """Return the words of train.py that trains a recipe for as many epochs as are asked for."""
    gate = "benchmarks.contestants.callback.WaitForTurn"
    ours = [f"+callbacks.gate._target_={gate}", "trainer.max_epochs=1000000"]
    return [str(ROOT / "train.py"), *overrides, *ours, f"trainer.accelerator={device}"]
