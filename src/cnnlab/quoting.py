"""Paths and addresses on a command line, put in quotes before Hydra's grammar trips over them."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Settings whose value is a text and nothing else, whatever it looks like.
TEXTS = (
    "image",
    "checkpoint",
    "run",
    "path",
    "init_from",
    "like",
    "resume",
    "a",
    "b",
    "name",
    "dataset.path",
    "dataset.root",
    "dataset.name",
    "tracking.uri",
    "tracking.experiment_name",
    "tracking.run_name",
    "sweep.storage",
    "sweep.name",
)
OVERRIDE = re.compile(rf"(\+{{0,2}}(?:{'|'.join(map(re.escape, TEXTS))}))=(.*)", re.DOTALL)
PLAIN = re.compile(r"(?![\d.+-])[A-Za-z0-9_./@%+-]*")  # what Hydra takes for the text it is; not a number
VALUED = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "--package", "-p")  # take a value
SEVERAL = re.compile(r"augmentation=(\[[^\[\]]*\])")  # options of one group, which Hydra would mix into one
MULTIRUN = ("-m", "--multirun")
# With like=RUN or resume=RUN the settings are that run's: Hydra must not look for keys among the defaults.
LIKE = re.compile(r"(?:like|resume)=(?!null$).+", re.DOTALL)
DOTTED = re.compile(r"(?!hydra\.)[A-Za-z_][\w-]*(?:\.[\w-]+)+=.*", re.DOTALL)


def quote_texts(arguments: Sequence[str]) -> list[str]:
    """Return a command's arguments with the values of `TEXTS` in quotes where Hydra would read something else in them.

    Left as they are: values in quotes, null, interpolations, and the commas of a multirun. Beside like=RUN, which says
    what keys there are, other keys are forced with `++`; they are checked with all others later.
    """
    several = any(item in MULTIRUN for item in arguments)
    quoted = [_quoted(item, several) for argument in arguments for item in _parted(argument)]
    if not any(map(LIKE.fullmatch, quoted)):
        return quoted
    return [f"++{item}" if DOTTED.fullmatch(item) else item for item in quoted]


def _parted(argument: str) -> list[str]:
    """Return `augmentation=[a,b]`, as Hydra writes several options of a group, as the option that has them in order."""
    found = SEVERAL.fullmatch(argument)
    return ["augmentation=parts", f"augmentation.parts={found[1]}"] if found else [argument]


def _quoted(argument: str, several: bool) -> str:
    found = OVERRIDE.fullmatch(argument)
    if found is None:
        return argument
    key, value = found.groups()
    in_quotes = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    if key == "run" and value[:1] == "[" and value[-1:] == "]":  # several, for evaluate.py
        items = [_quoted(f"run={item.strip()}", several=False).removeprefix("run=") for item in value[1:-1].split(",")]
        return f"{key}=[{','.join(items)}]"
    if in_quotes or value == "null" or "${" in value or (several and "," in value) or PLAIN.fullmatch(value):
        return argument
    # A backslash is one, except before a quote.
    escaped = re.sub(r"(\\*)(?:'|$)", lambda end: end[1] * 2 + ("\\'" if end[0].endswith("'") else ""), value)
    return f"{key}='{escaped}'"


def name_words(arguments: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Return a command's arguments with its bare words as the values of `keys`, in turn: Hydra takes no bare words.

    What is neither an option, nor the value of one, nor KEY=VALUE is a word; those beyond the keys stay as they are.
    """
    named: list[str] = []
    free = [key for key in keys if not any(item.startswith(f"{key}=") for item in arguments)]
    of_option = False
    for item in arguments:
        word = not of_option and not item.startswith(("-", "+", "~")) and "=" not in item
        of_option = item in VALUED
        named.append(f"{free.pop(0)}={item}" if word and free else item)
    return named
