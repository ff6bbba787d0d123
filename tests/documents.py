"""What README and docs show: their pages, and the commands in them."""

from __future__ import annotations

import re
from pathlib import Path

from commands import ROOT

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELL = ("", "bash", "sh")  # what a block without commands has, too: screens are such blocks
PROGRAMS = (
    *("python", "make", "cnnlab", "torchrun", "srun", "sbatch", "mlflow", "export", "docker", "curl", "pip"),
    "optuna-dashboard",
)
VARIABLES = ("DATABASE_PASSWORD", "MLFLOW_TRACKING_URI")  # that stand before a command
INLINE = re.compile(r"`(python [a-z]+\.py [^`]+)`")


def pages() -> list[str]:
    """Return README and every page of docs/, as paths from the root."""
    return sorted(
        file.relative_to(ROOT).as_posix() for file in (*ROOT.glob("README*.md"), *(ROOT / "docs").rglob("*.md"))
    )


def text_of(page: str) -> str:
    return Path(ROOT, page).read_text(encoding="utf-8")


def commands_in(page: str) -> list[str]:
    """Return the command lines of a page's blocks: whole ones, continued lines joined, without their comments."""
    blocks = [text for language, text in BLOCK.findall(text_of(page)) if language in SHELL]
    lines = [line for text in blocks for line in re.sub(r" *\\\n *", " ", text).splitlines()]
    whole = [re.split(r"\s#\s", line)[0].strip() for line in lines]
    return [line for line in whole if re.split("[ =]", line)[0] in (*PROGRAMS, *VARIABLES)]


def inline_commands_in(page: str) -> list[str]:
    """Return the commands in a page's sentences."""
    prose = BLOCK.sub("", text_of(page))
    return [" ".join(item.split()) for item in INLINE.findall(prose)]
