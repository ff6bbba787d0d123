"""Trained classifiers as one: probabilities averaged over the members and over views of each image."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnlab.checkpoint import Saved, find_saved
from cnnlab.classifier import Classifier
from cnnlab.data.rows import Images
from cnnlab.errors import UsageError, shown
from cnnlab.kept_predictions import answers
from cnnlab.metrics import Predictions
from cnnlab.settings.base import digest
from cnnlab.settings.trained import Evaluation

# Down and right, in pixels.
MOVES = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))


@dataclass(frozen=True, eq=False)
class Averaged:
    """What the average says, its logits being logarithms of probabilities, and each member's own accuracy."""

    predictions: Predictions
    accuracies: list[float]

    def metrics(self, split: str) -> dict[str, float]:
        """Return cross-entropy and accuracy of the average, named `split/...`."""
        logits, labels = self.predictions.logits, self.predictions.labels
        accuracy = accuracy_of(self.predictions.predicted, labels)
        return {f"{split}/loss": float(F.nll_loss(logits, labels)), f"{split}/acc": accuracy}


def find_members(settings: Evaluation) -> list[Saved]:
    """Return the classifiers that `run` names, or the one of `checkpoint`.

    Their networks, scalings and trainings may differ. Raises UsageError with a line for each that answers another
    question than the first: of other images or other classes, or the same one twice.
    """
    named = settings.several
    if not named:
        return [find_saved(settings)]
    members = [find_saved(settings.model_copy(update={"run": name})) for name in named]
    first, problems = members[0], []
    for name, member in list(zip(named, members, strict=True))[1:]:
        ours, theirs = (saved.description.dataset.name for saved in (member, first))
        if ours != theirs:
            problems.append(f"run={name} was trained on dataset={ours}, run={named[0]} on dataset={theirs}")
        elif member.class_names != first.class_names:
            problems.append(f"run={name} knows other classes than run={named[0]}: {_lacking(member, first)}")
        elif member.input_shape != first.input_shape:
            sizes = ["x".join(map(str, saved.input_shape)) for saved in (member, first)]
            problems.append(f"run={name} takes images of {sizes[0]}, run={named[0]} of {sizes[1]}")
    ids = [member.run_id for member in members]
    for run_id in dict.fromkeys(run_id for run_id in ids if ids.count(run_id) > 1):
        problems.append(f"run={shown(named)} names {run_id} twice; an ensemble has every member once")
    if problems:
        raise UsageError(*problems)
    return members


def settings_of(members: Sequence[Saved], tta: str) -> str:
    """Return the digest of the settings that give these answers: a single classifier's as trained, '' if not known."""
    digests = sorted(member.description.settings or "" for member in members)
    if len(members) == 1 and tta == "none":
        return digests[0]
    return digest({"members": digests, "tta": tta})


def _lacking(member: Saved, first: Saved) -> str:
    ours, theirs = set(member.class_names), set(first.class_names)
    if ours == theirs:
        return "they are in another order"
    return f"{shown(sorted(ours - theirs))} alone, and not {shown(sorted(theirs - ours))}"


def averaged(members: Sequence[Saved], images: Images, labels: Tensor, tta: str, batch_size: int) -> Averaged:
    """Return what the members say of images, uint8 [N, C, H, W], together, on the average of their views.

    In float32, on the GPU if there is one; the classifiers are back on the CPU afterwards.
    """
    together = torch.zeros(len(labels), len(members[0].class_names), dtype=torch.float64)
    accuracies = []
    for member in members:
        own = answers(member.classifier, images, batch_size, partial(seen, member.classifier, tta=tta))
        accuracies.append(accuracy_of(own.argmax(1), labels.cpu()))
        together += own
    probabilities = (together / len(members)).float().clamp_min(torch.finfo(torch.float32).tiny)
    return Averaged(Predictions(probabilities.log(), labels.cpu()), accuracies)


def seen(classifier: Classifier, images: Tensor, tta: str) -> Tensor:
    """Return probabilities, float64 [B, classes], averaged over the views of images [B, C, H, W]."""
    return torch.stack([classifier(view).double().softmax(1) for view in views(images, tta)]).mean(0)


def views(images: Tensor, tta: str) -> Iterator[Tensor]:
    """Yield images [B, C, H, W] as they are, and as `tta` names it: moved by one pixel, mirrored, or both.

    Black comes in from outside.
    """
    for down, right in MOVES if "shift" in tta else MOVES[:1]:
        moved = F.pad(images, (right, -right, down, -down))
        yield moved
        if "flip" in tta:
            yield moved.flip(3)


def accuracy_of(predicted: Tensor, labels: Tensor) -> float:
    """Return the share of int64 [N] that equals the labels [N]."""
    return float((predicted == labels).double().mean())


def describe_members(members: Sequence[Saved], together: Averaged, settings: Evaluation) -> list[str]:
    """Return in words who is averaged, with each one's own accuracy."""
    number = len(list(views(torch.zeros(1, *members[0].input_shape), settings.tta)))
    looked = f"tta={settings.tta}: probabilities averaged over {number} views of each image"
    lines = [
        f"member {number}: run {member.run_id}, checkpoint of epoch {member.epoch}, {settings.split}/acc {accuracy:.4f}"
        for number, (member, accuracy) in enumerate(zip(members, together.accuracies, strict=True), start=1)
    ]
    return ([] if settings.tta == "none" else [looked]) + (lines if len(members) > 1 else [])


def keep_members(
    folder: Path, members: Sequence[Saved], together: Averaged, settings: Evaluation, metrics: Mapping[str, float]
) -> Path:
    """Write who was averaged, how, and what came of it; return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "ensemble.json"
    listed = [
        {"run": member.run_id, "epoch": member.epoch, "acc": accuracy}
        for member, accuracy in zip(members, together.accuracies, strict=True)
    ]
    content = {"split": settings.split, "tta": settings.tta, "members": listed, "metrics": dict(metrics)}
    file.write_text(json.dumps(content, indent=1))
    return file
