"""A trained classifier rebuilt from its checkpoint: names and numbers, never a path to code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hydra.core.override_parser.overrides_parser import OverridesParser

from cnnlab.classifier import Classifier
from cnnlab.data.scaling import Scaling
from cnnlab.errors import UNREADABLE, UsageError, one_line
from cnnlab.job import Job
from cnnlab.networks import build_network
from cnnlab.settings.base import Own
from cnnlab.settings.dataset import MEMORY_LIMIT, MOST_PIXELS
from cnnlab.settings.description import FORMAT, Description
from cnnlab.settings.model import Model
from cnnlab.settings.read import read, resolve
from cnnlab.settings.trained import Choice, Registration, Trained
from cnnlab.tracking.find import download_checkpoint, find_run, open_client
from cnnlab.tracking.history import History, epoch_history
from cnnlab.weights import read_data

# What format 1 wrote instead of the names of networks.
OLD_TARGETS = {"cnnlab.models.ConvNet": "convnet", "cnnlab.models.MLP": "mlp"}
# What a command may say of a group beside its choice, and what says the rest.
TAKEN = {
    "dataset": (("name", "root", "path", "download", "memory_limit"), "the run says how its images are read"),
    "model": (("name",), "the run says what its network is"),
}
# What torch raises for sizes that no memory holds, or no integer.
UNBUILT = (RuntimeError, MemoryError, OverflowError, TypeError)
Asked = TypeVar("Asked", bound=Trained | Registration)


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


def asked_of(kind: type[Asked], job: Job) -> Asked:
    """Return the settings of a command that reads trained classifiers.

    Raises UsageError with every problem, and for what the command says of a run that the run says itself.
    """
    settings = read(kind, resolve(job.config))
    if problems := list(without_effect(settings, job.overrides)):
        raise UsageError(*problems)
    return settings


def without_effect(settings: Trained | Registration, overrides: Sequence[str]) -> Iterator[str]:
    """Yield a line for each override of a dataset or network that changes nothing; those of a user's own code do."""
    for item in OverridesParser.create().parse_overrides(list(overrides)):
        section, _, key = item.key_or_group.partition(".")
        chosen = {"dataset": settings.dataset, "model": settings.model}.get(section)
        if chosen is None or "_target_" in (chosen.model_extra or {}):
            continue
        value = item.value()
        given = [key] if key else [str(name) for name in value] if isinstance(value, dict) else []
        taken, why = TAKEN[section]
        if any(name not in taken for name in given):
            yield f"{item.input_line}: {why}; of {section} this command takes {', '.join(taken)}"


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
    named = f"run={run_id}: its checkpoint" if run_id else f"checkpoint={path}"
    content = read_file(path, named)
    try:
        description = read(Description, upgraded(content["cnnlab"]), "cnnlab.")
    except UsageError as error:
        raise UsageError(*(f"{named}: {line}" for line in error.problems)) from error
    settings = known_network(named, description.model, model)
    try:
        shape, classes = description.input_shape, len(description.class_names)
        network = build_network(settings, description.regularization, shape, classes)
        classifier = Classifier(Scaling(shape[0]), network, description.regularization, None, None, description.plain())
    except UNBUILT as error:
        raise UsageError(f"{named} describes a network that cannot be built: {one_line(error)}") from error
    try:
        classifier.load_state_dict(content["state_dict"])  # type: ignore[arg-type]
        epoch = int(content["epoch"]) + 1  # type: ignore[call-overload]
    except (*UNREADABLE, OverflowError, IndexError, MemoryError) as error:
        raise UsageError(f"{named} is damaged: {one_line(error)}") from error
    return Saved(classifier.eval(), description, epoch, path, run_id, history or {})


def read_file(path: Path, named: str) -> dict[str, object]:
    """Return what a checkpoint file holds; raises UsageError, calling it `named`, where it is none of cnnlab's."""
    content = read_data(path, "checkpoint", named)
    if not isinstance(content, dict) or not isinstance(content.get("cnnlab"), dict):
        raise UsageError(f"{named} was not written by cnnlab: it does not say which network it belongs to")
    return content


def upgraded(described: object) -> dict[str, object]:
    """Return a description of format 1 (the whole configuration, networks by import path) in today's format.

    A user's own images were stretched, and the test split was read, before there was a choice.
    """
    assert isinstance(described, dict)
    if "format" not in described and isinstance(described.get("config"), dict):
        described = _from_first_format(described, described["config"])
    dataset = described.get("dataset")
    if isinstance(dataset, dict):
        then: dict[str, object] = {"sealed": False, "balance": "none"} | (
            {"resize": "stretch", "max_pixels": MOST_PIXELS, "memory_limit": MEMORY_LIMIT} if "path" in dataset else {}
        )
        if isinstance(validation := dataset.get("validation"), dict):
            dataset = dataset | {"validation": {"folds": 5, "fold": 0} | validation}
        described = described | {"dataset": then | dataset}
    return described


def _from_first_format(described: dict[str, object], config: dict[str, object]) -> dict[str, object]:
    model = config.get("model")
    if isinstance(model, dict) and model.get("_target_") in OLD_TARGETS:
        network = OLD_TARGETS[model["_target_"]]
        model = {"network": network} | {key: value for key, value in model.items() if key != "_target_"}
    sections = {"dataset": config.get("dataset"), "model": model, "regularization": config.get("regularization")}
    kept = {"border": None} | {key: value for key, value in described.items() if key != "config"}
    return kept | sections | {"format": FORMAT}


def known_network(named: str, described: Model, given: Choice | None) -> Model:
    """Return the network's settings: of one of the user's own as the command gives them, and only if they are the same.

    What a file says about code is compared, never called.
    """
    if not isinstance(described, Own):
        return described
    wanted = described.plain()
    values = given.plain() if given else {}
    if wanted == values:
        return read_own(values)
    if "_target_" in values:
        keys = [key for key in {**wanted, **values} if wanted.get(key) != values.get(key)]
        differing = ", ".join(f"model.{key}={values.get(key)!r}, trained with {wanted.get(key)!r}" for key in keys)
        raise UsageError(f"{named} has another network: {differing}")
    raise UsageError(
        f"{named} holds a network of somebody's own code, model._target_={described.target!r}; if you trust "
        "that code, name it again: model=NAME (with --config-dir, if it lies in your own folder)"
    )


def read_own(values: Mapping[str, object]) -> Own:
    """Return a user's own section of the command's configuration."""
    return read(Own, values, "model.")
