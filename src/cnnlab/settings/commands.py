"""What a training takes, section by section; what the other commands share of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, Strict

from cnnlab.errors import refused, shown, unknown
from cnnlab.settings.augmentation import Augmentation
from cnnlab.settings.base import Count, Own, Positive, Section, Seed, Text, Whole, digest, flatten
from cnnlab.settings.dataset import ARCHIVES, Archive, Dataset
from cnnlab.settings.flags import problems
from cnnlab.settings.model import Model
from cnnlab.settings.training import (
    Callbacks,
    Loggers,
    Loss,
    Metrics,
    Optimizer,
    OwnMetric,
    Regularization,
    Scheduler,
    measured,
)
from cnnlab.tracking.schema import MEASURES, MONITORS, Direction


class Trainer(Section):
    """Flags of Lightning's Trainer; those not named here are Lightning's to check."""

    model_config = ConfigDict(extra="allow")

    accelerator: Text = Field(description="auto, cpu, gpu, mps, ...")
    devices: int | str | list[int] = Field(description="how many, or a list of indices")
    num_nodes: Count = Field(description="machines")
    strategy: Text = Field(description="auto, ddp, ddp_spawn, fsdp, ...")
    sync_batchnorm: bool = Field(description="batch normalization over the whole batch, not each device's share of it")
    precision: int | str | None = Field(
        description="auto, 32-true, bf16-mixed, ...; auto: bf16-mixed where the device has it and a step is faster so"
    )
    compile: Literal["auto", "none", "kernels", "graphs", "inductor"] = Field(
        description="how a step is computed: none, operator by operator; kernels, C++ on a CPU; graphs, CUDA's; "
        "inductor, torch.compile"
    )
    max_epochs: Count = Field(description="epochs to train at most")
    deterministic: bool | Literal["warn"] = Field(description="true: deterministic GPU kernels")

    @property
    def flags(self) -> dict[str, object]:
        """Return every flag, as Lightning's Trainer takes it; before it is known what `auto` becomes, in float32."""
        flags = {name: value for name, value in self if name != "compile"}
        if flags["deterministic"] is False:  # as Lightning's own None, for which it does not import torch's compiler
            del flags["deterministic"]
        return flags | ({"precision": "32-true"} if self.precision == "auto" else {})

    def conflicts(self, path: str) -> Iterator[str]:
        yield from problems(self.model_extra or {}, path)


class Store(Section):
    """Where MLflow keeps runs."""

    uri: Text = Field(description="sqlite:///FILE, http(s)://SERVER, or a database that MLflow knows")


class Tracking(Store):
    """How MLflow keeps a run."""

    experiment_name: Text = Field(description="MLflow's experiment")
    run_name: Text = Field(description="MLflow's name of the run")
    offline: bool = Field(
        description="true: recorded on this machine; python -m cnnlab.tracking.sync delivers it to tracking.uri later"
    )
    log_model: bool = Field(description="whether the model itself is kept, beside the checkpoint")
    registers: bool = Field(  # `register` is a method of every class that pydantic makes
        alias="register",
        description="true: the model becomes a version of MLflow's registered model of the dataset's name, and its "
        "champion where none is better on validation",
    )
    system_metrics: bool = Field(description="processor, memory, disk, network and GPU")
    system_metrics_interval: Positive = Field(description="seconds")

    def conflicts(self, path: str) -> Iterator[str]:
        if self.registers and not self.log_model:
            yield f"{path}register=true needs the model in MLflow, but {path}log_model=false; leave one of them out"
        if self.registers and self.offline:
            yield (
                f"{path}register=true asks the server, but {path}offline=true; leave one of them out, and register the "
                "run when it is delivered"
            )


class Figures(Section):
    """Which pictures are drawn of a run."""

    enabled: bool = Field(description="whether any are drawn")
    skip_epochs: Whole = Field(description="learning curves are drawn again without this many first epochs")
    mistakes: Count = Field(description="how many of the most confident wrong predictions")
    samples: Count = Field(description="how many images, one a class, with their probabilities")
    diagram: bool = Field(description="of the network, with shapes and parameters")


# Where data lies, where a run trains and whether it is tested is no part of what it is.
PLACES = (
    "dataset.root",
    "dataset.download",
    "dataset.batch_size",
    "dataset.sealed",
    "dataset.max_pixels",
    "dataset.memory_limit",
    "trainer.accelerator",
    "trainer.compile",
    "threads",
)
# What was so before there was a choice is no part of it either: older runs and studies stay comparable.
ALWAYS_WAS: dict[str, object] = {
    "loss.name": "cross_entropy",
    "optimizer.epsilon_placement": "torch",
    "dataset.balance": "none",
    "dataset.validation.folds": 5,
    "dataset.validation.fold": 0,
    "trainer.sync_batchnorm": True,
}
FOLD = "dataset.validation.fold"
KEPT_APART = (
    "seed",
    "like",
    "resume",
    "init_from",
    "evaluation_batch_size",
    "tracking",
    "figures",
    "loggers",
    "metrics",
)


class Training(Section):
    """Everything that one run of train.py takes."""

    seed: Seed = Field(description="initial weights, dropout and the order of the batches")
    batch_size: Count = Field(description="images a step, which all devices share")
    evaluation_batch_size: Count = Field(
        description="images a step and device of validation and test; changes no metric"
    )
    threads: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        description="CPU threads of torch, on which a result's last digits depend; null: its own choice, "
        "in a sweep the worker's share of the cores"
    )
    like: str | int | None = Field(description="start from the settings of this run: its id, or best, or last")
    resume: str | int | None = Field(
        description="go on with this run, which was stopped: its id, or last; or with a finished one, if longer"
    )
    init_from: str | int | None = Field(
        description="begin with the weights that fit: a run's id, its first 6 characters or more, or a file"
    )
    freeze: Annotated[tuple[Text, ...], Strict(False)] = Field(
        description="parameters or layers that are not trained, by name or pattern, as conv1*"
    )
    dataset: Dataset = Field(description="the images")
    model: Model = Field(description="the network")
    regularization: Regularization = Field(description="dropout, penalties, label smoothing")
    augmentation: Augmentation = Field(description="random changes to the training images")
    loss: Loss = Field(description="what training minimizes, beside the penalties")
    optimizer: Optimizer = Field(description="how to descend")
    scheduler: Scheduler = Field(description="how the learning rate changes")
    trainer: Trainer = Field(description="Lightning's flags")
    callbacks: Callbacks = Field(description="what is kept, and when training ends")
    metrics: Metrics = Field(description="measured on validation and test, beside loss and accuracy")
    loggers: Loggers = Field(description="Lightning's loggers, or your own, beside the tracked run")
    tracking: Tracking = Field(description="where the run is kept")
    figures: Figures = Field(description="which pictures are drawn")

    @property
    def monitors(self) -> dict[str, Direction]:
        """Return what a checkpoint, early stopping or a search may watch in this training, and which way is better."""
        return MONITORS | {f"val/{name}": direction for name, direction in measured(self.metrics).items()}

    @property
    def chosen_monitors(self) -> list[str]:
        """Return the names of the chosen metrics as they are measured on validation."""
        return [f"val/{name}" for name in measured(self.metrics)]

    def conflicts(self, path: str) -> Iterator[str]:
        name = self.dataset.name
        if not isinstance(self.dataset, Archive) and name in ARCHIVES:  # it would answer for run=best dataset=NAME
            yield f"{path}dataset.name={shown(name)} is the name of a built-in dataset; choose another"
        if self.tracking.registers and (problem := unregistrable(f"{path}dataset.name", name)):
            yield f"{problem}, which {path}tracking.register=true needs"
        names = [item.name if isinstance(item, OwnMetric) else item for item in self.metrics]
        for name in dict.fromkeys(name for name in names if names.count(name) > 1 or f"val/{name}" in MONITORS):
            yield f"{path}metrics: '{name}' is there already; every metric needs a name of its own"
        if isinstance(self.loss, Own) and self.regularization.label_smoothing > 0:
            yield (
                f"{path}regularization.label_smoothing={self.regularization.label_smoothing} belongs to the "
                f"cross-entropy, but {path}loss._target_={self.loss.target!r}; set it to 0"
            )
        if isinstance(self.loss, Own) and self.dataset.balance == "weights":
            yield (
                f"{path}dataset.balance='weights' belongs to the cross-entropy, but "
                f"{path}loss._target_={self.loss.target!r}; take sampler or none"
            )
        for name in ("checkpoint", "early_stopping"):
            watching = getattr(self.callbacks, name)
            if watching is None or watching.monitor is None:
                continue
            key = f"{path}callbacks.{name}.monitor"
            if watching.monitor not in self.monitors:
                yield unknown_monitor(key, watching.monitor, self.monitors)
            elif watching.monitor.startswith("val/") and not self.dataset.validation.held_out:
                yield (
                    f"{key}={watching.monitor!r} needs a validation split, but "
                    f"{path}dataset.validation.fraction=0; give it a fraction or choose callbacks=last_checkpoint"
                )

    def digest(self, weights: str | None = None) -> str:
        """Return 12 hexadecimal digits that two trainings share which differ in nothing but seed, fold and place.

        `weights` is the digest of those it begins with: they count, and not the name of the run or file they are from.
        """
        settings = {key: value for key, value in self.plain().items() if key not in KEPT_APART}
        beginning = {"init_from": weights, "freeze": settings.pop("freeze")}
        settings |= {key: value for key, value in beginning.items() if value}
        apart = {*PLACES, FOLD}
        return digest({key: value for key, value in flatten(settings).items() if is_choice(key, value, apart)})


def is_choice(key: str, value: object, apart: Collection[str]) -> bool:
    """Return whether a value is part of what a training is: not one of `apart`, and not what always was so."""
    return key not in apart and (key, value) not in ALWAYS_WAS.items()


def unknown_monitor(key: str, monitor: str, monitors: Iterable[str]) -> str:
    """Return the line for a monitor that this training does not have: what it would need, or the nearest one."""
    name = monitor.removeprefix("val/")
    if monitor != name and name in MEASURES:
        return f"{key}={monitor!r} is not measured; add metrics=[{name}]"
    return unknown(key, monitor, monitors)


def unregistrable(key: str, name: str) -> str:
    """Return what forbids a name as that of a registered model, nothing where all is well."""
    if name.strip(". ") and not set("/:") & set(name):
        return ""
    return refused(key, name, "a name without / and :, as MLflow's registry does")
