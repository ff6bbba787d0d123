"""A trained classifier rebuilt from its checkpoint: names and numbers, never a path to code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cnnlab.classifier import Classifier
from cnnlab.data.scaling import Scaling
from cnnlab.errors import UsageError, one_line
from cnnlab.networks import build_network
from cnnlab.settings.base import Own
from cnnlab.settings.commands import Choice, Trained
from cnnlab.settings.description import FORMAT, Description
from cnnlab.settings.model import Model
from cnnlab.settings.read import read
from cnnlab.tracking.find import download_checkpoint, find_run, open_client
from cnnlab.tracking.history import History, epoch_history
from cnnlab.weights import UNREADABLE, read_data

# What format 1 wrote instead of the names of networks.
OLD_TARGETS = {"cnnlab.models.ConvNet": "convnet", "cnnlab.models.MLP": "mlp"}

# What torch raises for sizes that no memory holds, or no integer.
UNBUILT = (RuntimeError, MemoryError, OverflowError, TypeError)


@dataclass(frozen=True, eq=False)
class Saved:
    """A classifier in evaluation mode, with what it was trained on and where it came from.

    `epoch` counts from 1; `run_id` and `history` are None and empty for a checkpoint that came as a file.
    """

    classifier: Classifier
    description: Description
    epoch: int
    checkpoint: Path
    run_id: str | None
    history: History

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.description.class_names

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        return self.description.input_shape


def find_saved(settings: Trained) -> Saved:
    """Return the classifier that `run` (of `tracking.uri`) or `checkpoint` names; raises UsageError without one."""
    if settings.checkpoint is not None:
        return load_saved(Path(settings.checkpoint).expanduser(), settings.model)
    client = open_client(settings.tracking.uri)
    names = [group.name if group else None for group in (settings.dataset, settings.model)]
    run = find_run(client, str(settings.run), *names)
    run_id = run.info.run_id
    return load_saved(download_checkpoint(client, run), settings.model, run_id, epoch_history(client, run_id))


def load_saved(
    path: Path, model: Choice | None = None, run_id: str | None = None, history: History | None = None
) -> Saved:
    """Return the classifier of a checkpoint file.

    A checkpoint is data: a network that is not one of cnnlab's is built only where `model` names the same code with the
    same values again. Raises UsageError where the file is missing, damaged, or not one of cnnlab's.
    """
    content = read_file(path)
    try:
        description = read(Description, upgraded(content["cnnlab"]), "cnnlab.")
    except UsageError as error:
        raise UsageError(*(f"checkpoint={path}: {line}" for line in error.problems)) from error
    settings = known_network(path, description.model, model)
    try:
        shape, classes = description.input_shape, len(description.class_names)
        network = build_network(settings, description.regularization, shape, classes)
        classifier = Classifier(Scaling(shape[0]), network, description.regularization, None, None, description.plain())
    except UNBUILT as error:
        raise UsageError(f"checkpoint={path} describes a network that cannot be built: {one_line(error)}") from error
    try:
        classifier.load_state_dict(content["state_dict"])  # type: ignore[arg-type]
        epoch = int(content["epoch"]) + 1  # type: ignore[call-overload]
    except (*UNREADABLE, OverflowError, IndexError, MemoryError) as error:
        raise UsageError(f"checkpoint={path} is damaged: {one_line(error)}") from error
    return Saved(classifier.eval(), description, epoch, path, run_id, history or {})


def read_file(path: Path) -> dict[str, object]:
    """Return what a checkpoint file holds; raises UsageError where it is no checkpoint of cnnlab's."""
    content = read_data(path, "checkpoint")
    if not isinstance(content, dict) or not isinstance(content.get("cnnlab"), dict):
        raise UsageError(f"checkpoint={path} was not written by cnnlab: it does not say which network it belongs to")
    return content


def upgraded(described: object) -> dict[str, object]:
    """Return a description of format 1 (the whole configuration, networks by import path) in today's format.

    A user's own images were stretched before there was a choice.
    """
    assert isinstance(described, dict)
    if "format" not in described and isinstance(described.get("config"), dict):
        described = _from_first_format(described, described["config"])
    dataset = described.get("dataset")
    if isinstance(dataset, dict) and "path" in dataset:
        described = described | {"dataset": {"resize": "stretch"} | dataset}
    return described


def _from_first_format(described: dict[str, object], config: dict[str, object]) -> dict[str, object]:
    model = config.get("model")
    if isinstance(model, dict) and model.get("_target_") in OLD_TARGETS:
        network = OLD_TARGETS[model["_target_"]]
        model = {"network": network} | {key: value for key, value in model.items() if key != "_target_"}
    sections = {"dataset": config.get("dataset"), "model": model, "regularization": config.get("regularization")}
    kept = {"border": None} | {key: value for key, value in described.items() if key != "config"}
    return kept | sections | {"format": FORMAT}


def known_network(path: Path, described: Model, given: Choice | None) -> Model:
    """Return the network's settings: of one of the user's own as the command gives them, and only if they are the same.

    What a file says about code is compared, never called.
    """
    if not isinstance(described, Own):
        return described
    wanted = described.plain()
    named = given.plain() if given else {}
    if wanted == named:
        return read_own(named)
    if "_target_" in named:
        keys = [key for key in {**wanted, **named} if wanted.get(key) != named.get(key)]
        differing = ", ".join(f"model.{key}={named.get(key)!r}, trained with {wanted.get(key)!r}" for key in keys)
        raise UsageError(f"checkpoint={path} has another network: {differing}")
    raise UsageError(
        f"checkpoint={path} holds a network of somebody's own code, model._target_={described.target!r}; if you trust "
        "that code, name it again: model=NAME (with --config-dir, if it lies in your own folder)"
    )


def read_own(values: Mapping[str, object]) -> Own:
    """Return a user's own section of the command's configuration."""
    return read(Own, values, "model.")
