"""A trained classifier as a file for other programs, compared with its checkpoint before it is kept."""

from __future__ import annotations

import importlib.util
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cnnlab import process
from cnnlab.checkpoint import Saved, asked_of, find_saved
from cnnlab.console import console, show_closing
from cnnlab.errors import Incomplete, UsageError, disk_is_full, one_line
from cnnlab.formats import FORMATS, Answer, Format
from cnnlab.job import Job
from cnnlab.portable import Portable, facts_about
from cnnlab.settings.trained import Export
from cnnlab.start import typed

BATCHES = (1, 2, 7)  # images, each way of cutting them into batches once
TOLERANCE = 1e-4  # between two probabilities


@dataclass(frozen=True)
class Exported:
    """What was written: the file, the JSON beside it, and the largest difference to a probability of the checkpoint."""

    path: Path
    facts: Path
    difference: float


def export(job: Job) -> Exported:
    """Write the classifier of `run` or `checkpoint` as `format` says, to `path` or into `job.folder`.

    Raises UsageError for a classifier, a path or a format that will not do, and Incomplete where the written file
    answers other than the checkpoint; nothing is kept then.
    """
    process.begin()
    settings = asked_of(Export, job)
    kind = FORMATS[settings.format]
    target = job.folder / f"model{kind.extensions[0]}"
    if settings.path is not None:
        target = Path(str(settings.path)).expanduser()
    problems = check_packages(settings.format, kind) + check_target(target, kind, overwrite=settings.overwrite)
    if problems:
        raise UsageError(*problems)
    saved = find_saved(settings)
    exported = write(saved, settings.format, target)

    rows = {
        "file": f"{exported.path} ({exported.path.stat().st_size / 1000:,.0f} kB)",
        "facts": f"{exported.facts} (class names, input, scaling)",
        "difference": f"at most {exported.difference:.1g} between a probability here and of the checkpoint",
    }
    show_closing(rows)
    shape = f"[N, {', '.join(map(str, saved.input_shape))}]"
    for line in kind.use:
        classes, train = len(saved.class_names), typed("train")
        filled = line.format(file=repr(str(exported.path)), shape=shape, classes=classes, train=train)
        console.print(filled, soft_wrap=True, markup=False)
    return exported


def check_packages(name: str, kind: Format) -> list[str]:
    """Return the line for packages that the format needs and this Python lacks."""
    missing = [package for package in kind.packages if importlib.util.find_spec(package) is None]
    return [f"format={name} needs {', '.join(missing)}: pip install 'cnnlab[export]'"] if missing else []


def check_target(target: Path, kind: Format, *, overwrite: bool) -> list[str]:
    """Return what is wrong with writing the file there."""
    if target.suffix not in kind.extensions:
        return [f"path={str(target)!r} must end in {' or '.join(kind.extensions)}"]
    taken = [file for file in (target, facts_file(target)) if file.exists()]
    if any(file.is_dir() for file in taken):
        return [f"path={str(target)!r} is a folder"]
    if taken and not overwrite:
        return [f"path={str(target)!r}: {taken[0].name} is there already; overwrite=true replaces it"]
    there = next(place for place in target.absolute().parents if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        return [f"path={str(target)!r}: cannot write to {there}; choose another folder"]
    return []


def facts_file(target: Path) -> Path:
    """Return where the JSON beside an exported file is."""
    return target.with_name(f"{target.name}.json")


def write(saved: Saved, name: str, target: Path) -> Exported:
    """Write the file and the JSON beside it; both appear whole, and only if the file answers as the checkpoint does."""
    kind = FORMATS[name]
    model = Portable(saved.classifier.scaling, saved.classifier.network)
    facts = facts_about(saved.class_names, saved.input_shape, saved.classifier.scaling)
    facts |= {"format": name, "model": saved.description.model.plain(), "run": saved.run_id, "epoch": saved.epoch}
    with folder_beside(target) as temporary:
        file, beside = Path(temporary, target.name), Path(temporary, facts_file(target).name)
        try:
            kind.write(model, saved.input_shape, facts, file)
        except UsageError as error:
            raise UsageError(
                *(f"format={name}: {line}; format=state_dict keeps its weights" for line in error.problems)
            ) from error
        difference = largest_difference(kind.read(file, model), model, sample_pixels(saved.input_shape, sum(BATCHES)))
        if not difference <= TOLERANCE:
            raise Incomplete(
                f"format={name}: the exported model's probabilities differ from the checkpoint's by {difference:.1e}, "
                f"more than {TOLERANCE:g}; it is not kept"
            )
        beside.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        file.replace(target)
        beside.replace(facts_file(target))
    return Exported(target, facts_file(target), difference)


def folder_beside(target: Path) -> tempfile.TemporaryDirectory[str]:
    """Return a new folder on the target's own disk; raises UsageError where none can be made."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=target.parent, prefix=".exporting-")
    except OSError as error:
        if disk_is_full(error):
            raise
        reason = error.strerror or one_line(error)
        raise UsageError(
            f"path={str(target)!r}: cannot write to {target.parent} ({reason}); choose another folder"
        ) from error


@torch.inference_mode()
def largest_difference(answer: Answer, model: Portable, images: Tensor) -> float:
    """Return the largest difference between two probabilities, over batches of several sizes."""
    differences = [(answer(part) - model(part)).abs().max() for part in images.split(BATCHES)]
    return float(torch.stack(differences).max())


def sample_pixels(input_shape: tuple[int, ...], count: int) -> Tensor:
    """Return images of noise, uint8 [count, C, H, W], the same ones every time, from dark to bright."""
    noise = torch.randint(0, 256, (count, *input_shape), generator=torch.Generator().manual_seed(0))
    brightness = torch.linspace(0.1, 1, count).view(-1, 1, 1, 1)
    return (noise * brightness).to(torch.uint8)
