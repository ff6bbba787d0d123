"""What every section of the configuration is: a frozen class, one typed field a key, with its range and a sentence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, Strict

LARGEST_SEED = 2**32 - 1  # what numpy takes


@dataclass(frozen=True)
class Says:
    """Beside a type: what a field takes, where the type alone would say it badly."""

    allowed: str


Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
Text = Annotated[str, Field(pattern=r"\S"), Says("a text that is not empty")]
Pair = Annotated[tuple[Share, Share], Strict(False)]
Counts = Annotated[tuple[Count, ...], Strict(False)]  # a YAML list; its items stay strict


class Section(BaseModel):
    """A section of the configuration. Unknown keys are refused, and so are values of another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    added: ClassVar[type[Section] | None] = None  # what a user may add under a key of their own

    def conflicts(self, path: str) -> Iterator[str]:
        """Yield what is wrong between values that are right each by itself; `path` is the section's key and a dot."""
        yield from ()

    def plain(self) -> dict[str, object]:
        """Return the section as plain dicts, lists and values, under the configuration's own keys."""
        return self.model_dump(mode="json", by_alias=True)

    def options(self) -> dict[str, object]:
        """Return what the class that `name` chooses is called with: every other value."""
        return {key: value for key, value in self if key != "name"}

    def flat(self) -> dict[str, object]:
        """Return `{'model.name': 'mlp', ...}`: one entry a leaf, lists kept whole, as Hydra writes overrides."""
        return flatten(self.plain())


class Called(Section):
    """A user's own class or function, named by `_target_` in their own configuration; all other keys are its arguments.

    Read from a command line or a YAML file alone, never from a checkpoint: it says what is imported and called.
    """

    model_config = ConfigDict(extra="allow")

    target: Text = Field(alias="_target_", description="import path of the class or function")

    @property
    def arguments(self) -> dict[str, object]:
        """Return what the target is called with, beyond what cnnlab passes itself."""
        return dict(self.model_extra or {})


class Own(Called):
    """A user's own class or function in the place of a group's option, under a name of its own."""

    name: str | None = Field(default=None, description="its name in tags and tables")


class Additions(Section):
    """A section to which a user adds their own classes, each under a key of its own."""

    model_config = ConfigDict(extra="allow")
    added: ClassVar[type[Section] | None] = Called
    __pydantic_extra__: dict[str, Called]

    @property
    def own(self) -> dict[str, Called]:
        """Return what was added, by its key."""
        return dict(self.__pydantic_extra__ or {})


@dataclass(frozen=True)
class ToldBy:
    """Tells the classes of a section apart: by the value of `key`, or as 'own' where there is a `_target_`."""

    key: str
    names: tuple[str, ...]

    @property
    def __name__(self) -> str:  # pydantic asks for it, as it takes functions
        return f"told_by_{self.key}"

    def __call__(self, value: object) -> str | None:
        if isinstance(value, Section):
            value = value.plain()
        if not isinstance(value, Mapping):
            return None
        name = "own" if "_target_" in value else value.get(self.key)
        return name if isinstance(name, str) else None


def flatten(config: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return `{'model.name': 'mlp', ...}` of nested dictionaries."""
    leaves: dict[str, object] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            leaves.update(flatten(value, f"{prefix}{key}."))
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def digest(values: Mapping[str, object]) -> str:
    """Return 12 hexadecimal digits that change with any key or value."""
    return hashlib.blake2b(json.dumps(values, sort_keys=True, default=str).encode(), digest_size=6).hexdigest()
