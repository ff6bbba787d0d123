"""What the commands take that read trained classifiers: to evaluate, predict, export, register, tell two apart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, Strict

from cnnlab.errors import refused, shown
from cnnlab.settings.base import Count, Says, Section, Text
from cnnlab.settings.commands import Figures, Store, unregistrable
from cnnlab.settings.dataset import Pixels
from cnnlab.settings.training import Metrics


class Choice(Section):
    """A group as a whole, of which a command that reads trained classifiers takes what it needs."""

    model_config = ConfigDict(extra="allow")

    name: str | None = Field(default=None, description="narrows run=best; of the dataset also checks the run's")

    def get(self, key: str) -> object:
        """Return the value of another key of the group, or None."""
        return (self.model_extra or {}).get(key)


class Trained(Section):
    """Which trained classifier is meant."""

    run: str | int | None = Field(
        description="the id of a tracked run, its first 6 characters or more, or best, or last, or of a "
        "registered model NAME@ALIAS"
    )
    checkpoint: str | None = Field(description="instead of a run: a checkpoint file")
    dataset: Choice | None = Field(default=None, description="with run=best: of this dataset; and where it lies now")
    model: Choice | None = Field(default=None, description="with run=best: of this model; and a network of your own")
    tracking: Store = Field(description="where the run was kept")

    def conflicts(self, path: str) -> Iterator[str]:
        if (self.run is None) == (self.checkpoint is None):
            yield "give either run=RUN_ID (or run=best dataset=NAME) or checkpoint=PATH"


Runs = Annotated[tuple[Annotated[str | int, Says("a run")], ...], Field(min_length=1), Strict(False)]


class Evaluation(Trained):
    """Everything that evaluate.py takes."""

    run: Annotated[str | int | Runs | None, Says("a run, or a list of runs such as [RUN_ID,RUN_ID]")] = Field(  # type: ignore[assignment]
        description="the id of a tracked run, its first 6 characters or more, or best, or last; or a list of them, "
        "whose probabilities are averaged"
    )
    tta: Literal["none", "shift", "flip", "flip_shift"] = Field(
        description="views of each image whose probabilities are averaged: moved by a pixel, mirrored, or both"
    )
    split: Literal["train", "val", "test"] = Field(description="which images are measured")
    unseal: bool = Field(description="true: opens the test split of a run that was trained with dataset.sealed=true")
    metrics: Metrics = Field(description="measured beside loss and accuracy")
    batch_size: Count = Field(description="images a step; changes no metric")
    figures: Figures = Field(description="which pictures are drawn")

    def conflicts(self, path: str) -> Iterator[str]:
        yield from super().conflicts(path)
        if self.several and len(self.several) == 1:
            yield f"{path}run={shown(self.several)} is one run; an ensemble has two or more"
        if self.unseal and self.split != "test":
            yield f"unseal=true opens the test split, but split={self.split!r}; leave one of them out"

    @property
    def several(self) -> tuple[str, ...]:
        """The runs of an ensemble; none where one classifier is asked for."""
        return tuple(map(str, self.run)) if isinstance(self.run, tuple) else ()


class Prediction(Trained):
    """Everything that predict.py takes."""

    image: str | int | None = Field(description="an image file of any size, or a folder of them")
    invert: Annotated[bool | Literal["auto"], Field()] = Field(
        description="true: dark ink on white paper for a network that knows light on dark; auto: where the edges say so"
    )
    center: Annotated[bool | Literal["auto"], Field()] = Field(
        description="true: a drawing is found on its page, scaled and centred as in training; auto: where the training "
        "images were made so, as MNIST's, and the file is no such image itself"
    )
    max_pixels: Pixels = Field(
        description="of an image file, width times height; one with more is refused before it is decoded"
    )


class Export(Trained):
    """Everything that export.py takes."""

    format: Literal["onnx", "torch_export", "state_dict"] = Field(
        description="ONNX, torch's own graph, or the weights alone"
    )
    path: str | int | None = Field(description="the file to write; null: into this command's folder of outputs/")
    overwrite: bool = Field(description="whether a file that is there is replaced")


class Registration(Section):
    """Everything that register.py takes."""

    run: str | int | None = Field(
        description="the id of a tracked run, its first 6 characters or more, or best (on validation), or last"
    )
    dataset: Choice | None = Field(default=None, description="with run=best: of this dataset")
    model: Choice | None = Field(default=None, description="with run=best: of this model")
    name: Text | None = Field(description="of the registered model; null: that of the run's dataset")
    alias: Annotated[
        str,
        Field(pattern=r"^[A-Za-z_-][\w-]*$"),
        Says("letters, digits, - and _, no number, and neither latest nor v1, v2, ..."),
    ] = Field(description="what this version is called from now on, and no other of the name")
    tracking: Store = Field(description="where the run was kept")

    def conflicts(self, path: str) -> Iterator[str]:
        if self.run is None:
            yield "give run=RUN_ID (or run=best dataset=NAME)"
        if self.name is not None and (problem := unregistrable("name", self.name)):
            yield problem
        if re.fullmatch(r"latest|v\d+", self.alias.lower()):
            yield refused("alias", self.alias, "any name but latest and v1, v2, ..., which MLflow keeps for itself")


class Difference(Section):
    """Everything that diff.py takes."""

    a: str | int | None = Field(description="a tracked run: its id, its first 6 characters or more, or best, or last")
    b: str | int | None = Field(description="the run it is compared with")
    tracking: Store = Field(description="where the runs were kept")

    def conflicts(self, path: str) -> Iterator[str]:
        if self.a is None or self.b is None:
            yield "give two runs, such as RUN_ID last (or a=RUN_ID b=last)"
