"""Where a run came from: code, versions, machine and command."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

from cnnlab.job import Job
from cnnlab.own_path import written
from cnnlab.start import PACKAGE
from cnnlab.tracking.schema import VERSION, Tag

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "hydra-core", "mlflow", "optuna")
# Of new files only sources go into the diff, and none whose name tells of secrets.
SOURCES = (".py", ".pyi", ".ipynb", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".sh", ".md", ".rst")
WORDS = "secrets?|passwords?|passwd|credentials?|tokens?|api[_-]?keys?"
SECRET = re.compile(rf"({WORDS})(/|\.\w+$)|(^|/)[^/]*\.env(\.|$)", re.IGNORECASE)
UNTRACKED_LIMIT = 100_000  # bytes of a new file that still goes into the diff
UNTRACKED_TOTAL = 1_000_000  # bytes of all of them


def command_tags(job: Job) -> dict[str, str]:
    """Return the command, and what became of it for this one job: its overrides and the experiment they chose."""
    overrides = shlex.join([*written(job.own_folder), *job.overrides])
    tags: dict[str, str] = {Tag.COMMAND: job.command, Tag.OVERRIDES: overrides}
    if job.multirun is not None:
        tags[Tag.MULTIRUN] = job.multirun
    if experiment := job.choices.get("experiment"):
        tags[Tag.EXPERIMENT] = experiment
    return tags


def code_tags(folder: Path) -> dict[str, str]:
    """Return git commit, branch and dirty flag of the checkout around `folder`; nothing outside a checkout."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return {}
    return {
        Tag.COMMIT: commit.strip(),
        Tag.BRANCH: (_git(folder, "rev-parse", "--abbrev-ref", "HEAD") or "").strip(),
        Tag.DIRTY: str(bool(_git(folder, "status", "--porcelain"))).lower(),
    }


def uncommitted_diff(folder: Path) -> str:
    """Return what git would need to get from the commit to the code that ran: changed files, and new source files.

    Of new files those that git ignores are left out, links, and those that are large, no source, or named for a secret.
    """
    if _git(folder, "rev-parse", "HEAD") is None:
        return ""
    parts, total = [_git(folder, "diff", "HEAD") or ""], 0
    for name in (_git(folder, "ls-files", "--others", "--exclude-standard", "-z") or "").split("\0"):
        file = folder / name
        if not name or not is_source(file) or SECRET.search(name):
            continue
        size = file.stat().st_size
        if size <= UNTRACKED_LIMIT and total + size <= UNTRACKED_TOTAL:
            total += size
            parts.append(_git(folder, "diff", "--no-index", "--", os.devnull, name, differs=True) or "")
    return "".join(parts)


def is_source(file: Path) -> bool:
    """Return whether a new file is one whose text may be kept with a run."""
    return file.suffix.lower() in SOURCES and file.is_file() and not file.is_symlink()


def machine_tags(device: str) -> dict[str, str]:
    """Return versions and machine: what else decides about speed and the last digits of a metric."""
    import torch

    versions = {f"{VERSION}{name}": metadata.version(name) for name in PACKAGES}
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else processor()
    return versions | {
        Tag.SOURCE: source_digest(),
        Tag.PYTHON: platform.python_version(),
        Tag.DEVICE: device,
        Tag.DEVICE_NAME: name,
        Tag.THREADS: str(torch.get_num_threads()),
        Tag.HOST: platform.node(),
        Tag.PLATFORM: platform.platform(),
    }


@cache
def source_digest() -> str:
    """Return 12 hexadecimal digits that change with any line of cnnlab's own code, as this process found it."""
    content = hashlib.blake2b(digest_size=6)
    for path in sorted(PACKAGE.rglob("*.py")):
        content.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return content.hexdigest()


def processor() -> str:
    """Return the processor's name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {os.cpu_count()} cores" if names else platform.processor() or "cpu"


@cache
def environment() -> str:
    """Return every installed package with its version, as pip would take it; those of this process' start."""
    read = [item.metadata for item in metadata.distributions()]  # each look reads and parses the file anew
    found = {item["Name"]: item["Version"] for item in read if item["Name"]}
    return "".join(f"{name}=={found[name]}\n" for name in sorted(found, key=str.lower))


def _git(folder: Path, *arguments: str, differs: bool = False) -> str | None:
    """Return git's output, or None where there is no git, no checkout or an error; `--no-index` exits 1 on a diff."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, errors="replace", timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 or (differs and done.returncode == 1) else None
