"""What is well and what is wrong here, a line each with its remedy: python -m cnnlab.doctor, or make doctor."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NoReturn

from packaging.markers import InvalidMarker
from packaging.requirements import InvalidRequirement, Requirement

from cnnlab import process
from cnnlab.errors import UsageError
from cnnlab.job import compose_job
from cnnlab.settings.dataset import ARCHIVES, Archive
from cnnlab.settings.read import read, resolve
from cnnlab.start import CHECKOUT, typed
from cnnlab.tracking.doctor import Finding, Verdict, examine
from cnnlab.tracking.journal import UNDELIVERED, journals
from cnnlab.tracking.store import default_uri

NAMED = 4  # packages named in a line
NVIDIA = Path("/proc/driver/nvidia/version")


def doctor(uri: str | None = None) -> int:
    """Print what is well and what is wrong with a store (the default one without `uri`), packages, devices and data.

    Mends what a move of the store's folder, an older MLflow and killed runs have left. Returns the exit code: 1 if
    something is wrong.
    """
    wrong = False
    for finding in findings(uri or default_uri()):
        print(f"{finding.verdict:<6}{finding.what:<11}{finding.said}", flush=True)
        wrong |= finding.verdict is Verdict.WRONG
    return int(wrong)


def findings(uri: str) -> Iterator[Finding]:
    """Yield a finding for each thing that is looked at."""
    yield from examine(uri)
    yield deliveries()
    if CHECKOUT:
        yield locked_versions(CHECKOUT / "requirements.lock")
    yield from devices()
    yield from datasets()


def deliveries() -> Finding:
    """Look for what waits for a server; what a run that is under way writes is none of it."""
    left = []
    for journal in journals():
        if journal.take():
            journal.release()
            left.append(journal)
    if not left:
        return Finding("deliveries", "none waits for a server")
    count = sum(journal.waiting() for journal in left)
    said = f"{count} of {len(left)} runs wait for their server in {UNDELIVERED}; deliver them: {typed('sync')}"
    return Finding("deliveries", said, Verdict.WRONG)


def locked_versions(lock: Path) -> Finding:
    """Compare what is installed with what the tests ran against."""
    differing = []
    pinned = [found for line in lock.read_text(encoding="utf-8").splitlines() if (found := _pinned(line))]
    for name, version in pinned:
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # of an option, or missing: the ranges above tell
        if installed.partition("+")[0] != version.partition("+")[0]:
            differing.append(f"{name} {installed} instead of {version}")
    if not differing:
        return Finding("lock", f"installed packages are those of {lock.name}")
    named = ", ".join(differing[:NAMED]) + (f" and {len(differing) - NAMED} more" if len(differing) > NAMED else "")
    return Finding("lock", f"{named}; the tested ones: pip install -r {lock.name}", Verdict.NOTE)


def _pinned(line: str) -> tuple[str, str] | None:
    """Return the package and version that a line of the lock pins, for this platform; None for any other line."""
    if not re.match(r"[\w.\-\[\],]+==", line):
        return None
    try:
        requirement = Requirement(line.partition(" #")[0].rstrip("\\ "))
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    except (InvalidRequirement, InvalidMarker):
        return None
    return (requirement.name, next(iter(requirement.specifier)).version) if applies else None


def devices() -> Iterator[Finding]:
    """Look at what torch can compute with, and in which precisions."""
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        yield Finding("devices", ", ".join(f"cuda:{index} {name}" for index, name in enumerate(names)))
        half = ["bf16-mixed"] if torch.cuda.is_bf16_supported(including_emulation=False) else []
        yield Finding("precision", ", ".join(["32-true", "16-mixed", *half, "64-true"]))
        return
    cores = f"CPU, {process.available_cores()} cores, {torch.get_num_threads()} threads"
    if NVIDIA.exists():
        said = f"{cores}; there is a GPU's driver, but torch {torch.__version__} finds no GPU"
        yield Finding("devices", f"{said}: install torch for that driver (nvidia-smi says which)", Verdict.WRONG)
    else:
        yield Finding("devices", cores)
    yield Finding("precision", "32-true, bf16-mixed, 64-true; 16-mixed needs a GPU")


def datasets() -> Iterator[Finding]:
    """Verify the archives that are there; those that are not are downloaded when they are first used."""
    from cnnlab.data import load

    absent = []
    for name in ARCHIVES:
        section = resolve(compose_job("train", [f"dataset={name}", "dataset.download=false"]).config)["dataset"]
        assert isinstance(section, dict)
        settings = read(Archive, section, "dataset.")
        try:
            data = load(settings)
        except UsageError as error:
            if all("is missing from" in line for line in error.problems):
                absent.append(name)
            else:
                yield Finding("data", "; ".join(error.problems), Verdict.WRONG)
        else:
            images = len(data.train_labels) + len(data.test_labels)
            yield Finding("data", f"{name}: {images:,} images, as published")
    if absent:
        yield Finding("data", f"{', '.join(absent)}: not in {settings.root}, downloaded when first used", Verdict.NOTE)


def main() -> NoReturn:
    """Be the command: its argument, if any, is the store's address."""
    process.set_environment()
    process.begin()
    sys.exit(doctor(sys.argv[1] if len(sys.argv) > 1 else None))


if __name__ == "__main__":
    main()
