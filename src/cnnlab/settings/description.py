"""What a checkpoint says of itself: enough to rebuild its classifier, in plain values that name no code of ours."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Strict

from cnnlab.settings.base import Count, Section
from cnnlab.settings.dataset import Dataset
from cnnlab.settings.model import Model
from cnnlab.settings.training import Regularization

Keys = Annotated[tuple[str, ...], Strict(False)]
FORMAT: Literal[2] = 2


class KeptImages(Section):
    """Which images a training knew, by keys of their content: an evaluation goes by this list."""

    train: Keys = Field(description="trained on")
    val: Keys = Field(description="validated on")
    test: Keys = Field(description="held out from both")


class Description(Section):
    """The part of a checkpoint under the key `cnnlab`."""

    format: Literal[2] = Field(description="changes with what stands here")
    dataset: Dataset = Field(description="the images it was trained on")
    model: Model = Field(description="the network")
    regularization: Regularization = Field(description="dropout is part of the network, the penalties of the objective")
    input_shape: Annotated[tuple[Count, Count, Count], Strict(False)] = Field(description="(C, H, W) of an image")
    class_names: Annotated[tuple[str, ...], Strict(False)] = Field(description="in the order of the logits")
    images: KeptImages | None = Field(
        default=None, description="of a user's own images: which were in which split, by content"
    )
    settings: str | None = Field(default=None, description="digest of the training's settings")
    loss: Literal["cross_entropy", "own"] = Field(
        default="cross_entropy", description="own: training minimized a loss that is not kept"
    )
    frame: Annotated[tuple[float, float, float], Strict(False)] | None = Field(
        default=None,
        description="of drawings on a plain ground: 5 %, median and 95 % of their longer side, as share of the image's",
    )
    border: float | None = Field(description="median brightness, 0..255, around the edges of the training images")
