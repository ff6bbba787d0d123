"""The `augmentation` section: one random change to the training images, or several in an order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, get_args

from pydantic import Discriminator, Field, Strict, Tag

from cnnlab.errors import refused, shown
from cnnlab.settings.base import Count, Own, Positive, Says, Section, Share, ToldBy

WHICH = "which augmentation"
Chance = Annotated[float, Field(gt=0, le=1)]
Area = Annotated[tuple[Chance, Chance], Strict(False), Says("two numbers above 0 and at most 1")]
Ratio = Annotated[tuple[Positive, Positive], Strict(False), Says("two numbers above 0")]


class Unchanged(Section):
    """The images as they are."""

    name: Literal["none"] = Field(description=WHICH)


class Shift(Section):
    """Each image moved by whole pixels."""

    name: Literal["shift"] = Field(description=WHICH)
    max_shift: Count = Field(description="pixels, either way in both directions")
    flip: bool = Field(description="also mirrored left to right, one in two: for clothes, not for digits")


class Affine(Section):
    """Each image turned, stretched, slanted and moved."""

    name: Literal["affine"] = Field(description=WHICH)
    degrees: Annotated[float, Field(ge=0, lt=180)] = Field(description="turned by up to this many, either way")
    scale: Share = Field(description="stretched or shrunk by up to this share")
    translate: Share = Field(description="moved by up to this share of the side")
    shear: Annotated[float, Field(ge=0, lt=90)] = Field(description="slanted by up to this many degrees")


class Flip(Section):
    """Images mirrored left to right."""

    name: Literal["flip"] = Field(description=WHICH)
    chance: Chance = Field(description="that an image is mirrored")


class Cutout(Section):
    """One black square an image."""

    name: Literal["cutout"] = Field(description=WHICH)
    size: Count = Field(description="pixels a side")


class RandomErasing(Section):
    """One rectangle an image replaced."""

    name: Literal["random_erasing"] = Field(description=WHICH)
    chance: Chance = Field(description="that an image loses a rectangle")
    area: Area = Field(description="smallest and largest share of the image")
    ratio: Ratio = Field(description="smallest and largest height by width")
    fill: Literal["noise", "black"] = Field(description="what stands in the rectangle")

    def conflicts(self, path: str) -> Iterator[str]:
        for name in ("area", "ratio"):
            low, high = getattr(self, name)
            if low > high:
                yield f"{refused(path + name, [low, high], 'the smaller number first')}"


class Mixup(Section):
    """Each image blended with another of the batch."""

    name: Literal["mixup"] = Field(description=WHICH)
    alpha: Positive = Field(description="of the Beta distribution the shares are drawn from")


class CutMix(Section):
    """A rectangle of another image of the batch in each image."""

    name: Literal["cutmix"] = Field(description=WHICH)
    alpha: Positive = Field(description="of the Beta distribution the rectangle's area is drawn from")


Part = Literal["affine", "shift", "flip", "cutout", "random_erasing", "mixup", "cutmix"]


class Parts(Section):
    """Several, one after the other; those not among `parts` are not used, whatever stands in their sections."""

    name: Literal["parts"] = Field(description=WHICH)
    parts: Annotated[
        tuple[Part, ...],
        Field(min_length=1),
        Strict(False),
        Says("a list of affine, shift, flip, cutout, random_erasing, mixup, cutmix, in their order"),
    ] = Field(description="what is done to the images, in this order")
    affine: Affine = Field(description="used where `parts` names it")
    shift: Shift = Field(description="used where `parts` names it")
    flip: Flip = Field(description="used where `parts` names it")
    cutout: Cutout = Field(description="used where `parts` names it")
    random_erasing: RandomErasing = Field(description="used where `parts` names it")
    mixup: Mixup = Field(description="used where `parts` names it")
    cutmix: CutMix = Field(description="used where `parts` names it")

    def conflicts(self, path: str) -> Iterator[str]:
        for name in dict.fromkeys(part for part in self.parts if self.parts.count(part) > 1):
            yield f"{path}parts={shown(self.parts)} names '{name}' twice; each part has one section of settings"


def without_effect(settings: Section, overrides: Sequence[str]) -> Iterator[str]:
    """Yield a line for each override of a part that is not among those done: it would change nothing."""
    if not isinstance(settings, Parts):
        return
    for item in overrides:
        section, _, rest = item.lstrip("+~").partition("=")[0].partition(".")
        part = rest.partition(".")[0]
        if section == "augmentation" and part in get_args(Part) and part not in settings.parts:
            yield f"{item} has no effect: '{part}' is not among augmentation.parts={shown(settings.parts)}"


AUGMENTATIONS = ("none", "shift", "affine", "flip", "cutout", "random_erasing", "mixup", "cutmix", "parts")
Augmentation = Annotated[
    Annotated[Unchanged, Tag("none")] | Annotated[Shift, Tag("shift")] | Annotated[Affine, Tag("affine")]
    | Annotated[Flip, Tag("flip")] | Annotated[Cutout, Tag("cutout")]
    | Annotated[RandomErasing, Tag("random_erasing")] | Annotated[Mixup, Tag("mixup")]
    | Annotated[CutMix, Tag("cutmix")] | Annotated[Parts, Tag("parts")] | Annotated[Own, Tag("own")],
    Discriminator(ToldBy("name", AUGMENTATIONS)),
]  # fmt: skip
