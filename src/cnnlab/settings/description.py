"""What a checkpoint says of itself: enough to rebuild its classifier, in plain values that name no code of ours."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Strict

from cnnlab.settings.base import Count, Section
from cnnlab.settings.dataset import Dataset
from cnnlab.settings.model import Model
from cnnlab.settings.training import Regularization

FORMAT: Literal[2] = 2


class Description(Section):
    """The part of a checkpoint under the key `cnnlab`."""

    format: Literal[2] = Field(description="changes with what stands here")
    dataset: Dataset = Field(description="the images it was trained on")
    model: Model = Field(description="the network")
    regularization: Regularization = Field(description="dropout is part of the network, the penalties of the objective")
    input_shape: Annotated[tuple[Count, Count, Count], Strict(False)] = Field(description="(C, H, W) of an image")
    class_names: Annotated[tuple[str, ...], Strict(False)] = Field(description="in the order of the logits")
    border: float | None = Field(description="median brightness, 0..255, around the edges of the training images")
