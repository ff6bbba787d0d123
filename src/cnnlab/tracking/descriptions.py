"""What MLflow's pages say first of a run, a sweep or a model: what came out, a picture of it, how to repeat it.

Markdown; its first line is plain, since lists of runs and experiments show it as it is.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping
from urllib.parse import quote

from cnnlab.errors import hidden
from cnnlab.start import typed
from cnnlab.tracking.schema import BEST, VALIDATION, Metric, Tag

UNKNOWN_ID = "MODEL_ID"  # in a description that is written before MLflow has given the model its id
COLUMNS = 84  # characters of a line of a command
WIDTH = 680  # pixels that a picture in a description may have: MLflow's pages do not make it smaller
PICTURE = "figures/description.png"


def result_line(metrics: Mapping[str, float], shown: Mapping[str, float]) -> str:
    """Return what a training reached in a line; `shown` are the metrics that its closing block has, the first first.

    `metrics` are those of the end: the kept epoch, and how many there were.
    """
    said = [f"{name} {value:.4f}" for name, value in list(shown.items())[:2]]
    reached = f"{BEST}{Metric.VAL_ACCURACY}"
    if reached in metrics and not any(name.startswith(VALIDATION) for name in shown):
        said.append(f"{Metric.VAL_ACCURACY} {metrics[reached]:.4f}")
    kept = f"kept: epoch {metrics[Metric.BEST_EPOCH]:.0f} of {metrics[Metric.EPOCHS]:.0f}"
    return f"{', '.join(said)}; {kept}, {metrics[Metric.TRAINING_SECONDS]:.1f} s of training"


def ending_line(status: str, tags: Mapping[str, str]) -> str:
    """Return why a run ended that did not finish: the error, or what stopped it."""
    if Tag.ERROR in tags:
        return f"{status}: {tags[Tag.ERROR]}"
    if Tag.INTERRUPTION not in tags:
        return status
    signal, _, reason = tags[Tag.INTERRUPTION].partition(": ")  # no signal where its process was gone
    return f"{status}: {reason or f'stopped by {signal}'}"


def picture(run_id: str, name: str = PICTURE) -> str:
    """Return the artifact of a run as a picture."""
    return f"![](get-artifact?path={quote(name, safe='')}&run_uuid={run_id})"


def command(tags: Mapping[str, str], door: str = "train") -> str:
    """Return the command that repeats a run with these tags; nothing where they do not tell."""
    overrides = tags.get(Tag.OVERRIDES)
    return code(wrapped(f"{typed(door)} {overrides}".strip())) if overrides is not None else ""


def wrapped(text: str) -> str:
    """Return a command in lines that a shell takes as one: MLflow's pages do not break them, and grow as wide."""
    try:
        words = shlex.split(text, posix=False)  # quotes stay
    except ValueError:  # a quote that is not closed
        return text
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) > COLUMNS:
            lines.append(" ")
        lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return " \\\n".join(lines)


def code(*lines: str) -> str:
    """Return lines to be copied."""
    return "\n".join(("```", *(line for line in lines if line), "```"))


def description(*parts: str) -> str:
    """Return a description of these parts, those without a word left out; its end tells that nobody has changed it."""
    text = hidden("\n\n".join(part for part in parts if part))
    return f"{text}\n\n{mark(text)}"


def is_own(text: str) -> bool:
    """Return whether a description is empty, or one of these that nobody has changed: only then may it be replaced."""
    before, _, last = text.rpartition("\n\n")
    return not text or last == mark(before)


def mark(text: str) -> str:
    """Return a comment that is not shown, with a digest of the text."""
    return f"<!-- cnnlab {hashlib.blake2b(text.encode(), digest_size=4).hexdigest()} -->"
