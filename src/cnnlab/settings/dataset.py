"""The `dataset` section: which images, where they lie, how they are scaled and split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import ConfigDict, Discriminator, Field, Strict, Tag

from cnnlab.errors import refused
from cnnlab.settings.base import Called, Count, Says, Section, Seed, Share, Text, ToldBy, Whole

ARCHIVES = ("digits", "mnist", "fashion_mnist", "kmnist", "cifar10")
MOST_PIXELS = 178_956_970  # that Pillow opens
MEMORY_LIMIT = 2048  # MiB, of a training that kept none
Pixels = Annotated[int, Field(ge=1, le=MOST_PIXELS)]
Sides = Annotated[tuple[Count, Count], Strict(False)]


class Validation(Section):
    """How the training images are divided into training and validation."""

    method: Literal["random", "last", "fold"] = Field(
        description="random: out of every class alike; last: the end of the file order, as Keras' validation_split; "
        "fold: one of several parts with all classes alike"
    )
    fraction: Share = Field(
        description="of the training images; 0 trains on all of them, without validation; method=fold has none"
    )
    seed: Seed = Field(description="chooses the images of method=random, and the parts of method=fold")
    folds: Annotated[int, Field(ge=2)] = Field(description="of method=fold: how many parts")
    fold: Whole = Field(description="of method=fold: which part is validation, from 0")

    def conflicts(self, path: str) -> Iterator[str]:
        if self.method == "fold" and self.fold >= self.folds:
            yield refused(f"{path}fold", self.fold, f"0 to {self.folds - 1}, as {path}folds={self.folds}")

    @property
    def held_out(self) -> bool:
        """Whether any image is."""
        return self.method == "fold" or self.fraction > 0


class Images(Section):
    """What all datasets have in common."""

    root: Text = Field(
        description="where archives lie, and are downloaded to when missing, and images beyond memory_limit"
    )
    download: bool = Field(description="whether missing archives are fetched")
    batch_size: Count = Field(description="the batch size that suits the number of images; batch_size overrules it")
    scaling: Literal["raw", "unit", "standard"] = Field(
        description="what the network sees of a pixel: raw 0..255, unit 0..1, standard mean 0 and deviation 1"
    )
    validation: Validation = Field(description="the part of the training images that is held out")
    balance: Literal["none", "weights", "sampler"] = Field(
        description="of unequal classes: weights in what training minimizes, or as many images of each drawn"
    )
    sealed: bool = Field(description="true: the test split is not opened; evaluate.py unseal=true does so later")


class Archive(Images):
    """A published dataset, or the bundled digits."""

    name: Literal["digits", "mnist", "fashion_mnist", "kmnist", "cifar10"] = Field(description="which images")


class ImageFolder(Images):
    """A user's own images: one folder a class."""

    name: Text = Field(description="your name for these images, for tags, MLflow's experiment and run=best")
    path: str | None = Field(description="a directory with one folder per class, or with train/, val/ and test/")
    image_size: Annotated[
        Literal["auto"] | Count | Sides,
        Says("auto, a whole number of pixels of at least 1, or two of them: [height, width]"),
    ] = Field(description="pixels a side that the images are resized to; auto: as the files are, at most 64")
    channels: Literal["auto", 1, 3] = Field(description="1 (grey) or 3 (colour); auto: as the files are")
    resize: Literal["crop", "pad", "stretch"] = Field(
        description="what becomes of another aspect ratio: its ends cut off, a border added, or the image stretched"
    )
    max_pixels: Pixels = Field(
        description="of an image file, width times height; one with more is refused before it is decoded"
    )
    memory_limit: Whole = Field(
        description="MiB that decoded images may take of the memory; more of them are read from a file in root"
    )
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="of the images, about, held out as the test split unless there is a test/ folder"
    )
    test_seed: Seed = Field(description="chooses the images of the test split; the same for every run")


class OwnImages(Images, Called):
    """Images that a user's own function or class, named by `_target_`, returns; keys unknown here are its arguments."""

    model_config = ConfigDict(extra="allow")

    name: Text = Field(description="your name for these images, for tags, MLflow's experiment and run=best")


class _Named(ToldBy):
    def __call__(self, value: object) -> str | None:
        if isinstance(value, OwnImages) or (isinstance(value, Mapping) and "_target_" in value):
            return "own"
        if isinstance(value, ImageFolder) or (isinstance(value, Mapping) and "path" in value):
            return "image_folder"  # whatever its name
        name = super().__call__(value)
        return "archive" if name in ARCHIVES else name


Dataset = Annotated[
    Annotated[Archive, Tag("archive")] | Annotated[ImageFolder, Tag("image_folder")] | Annotated[OwnImages, Tag("own")],
    Discriminator(_Named("name", (*ARCHIVES, "image_folder"))),
]
