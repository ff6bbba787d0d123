"""A command's options, put first and checked: Hydra takes them at either end only, and answers others with its usage.

Left out are Hydra's options that make another command of this one (`--config-name`, `--config-path`) or run a pickle
(`--experimental-rerun`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice

from cnnlab.errors import UsageError, unknown

ALONE = ("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m", "-sc")
WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--config-dir", "-cd", "--info", "-i")
OWN_FOLDER = ("--config-dir", "-cd")
ASKING = ("evaluate", "predict", "export")  # commands about a trained classifier
REGISTERED = re.compile(r"model=(['\"]?)(.+@[\w-]+)\1", re.DOTALL)


def options_first(arguments: Sequence[str]) -> list[str]:
    """Return the options, each with its value, and then everything else; raises UsageError for an unknown option."""
    options: list[str] = []
    rest: list[str] = []
    items = iter(arguments)
    problems = []
    for item in items:
        name, _, value = item.partition("=")
        if not item.startswith("-"):
            rest.append(item)
        elif name in WITH_VALUE:
            options += [item] if value else [item, *islice(items, 1)]
        elif item in ALONE:
            options.append(item)
        else:
            problems.append(unknown("option", name, [*ALONE, *WITH_VALUE]))
    if problems:
        raise UsageError(*problems)
    return [*options, *rest]


def names_folder(arguments: Sequence[str]) -> bool:
    """Return whether one of the options names a folder of configuration."""
    return any(item.partition("=")[0] in OWN_FOLDER for item in arguments)


def name_run(door: str, arguments: Sequence[str]) -> list[str]:
    """Return the arguments of the command `door` with `model=mnist@champion`, a registered model, as the run it is of.

    Raises UsageError where the command names another trained classifier too.
    """
    found = [item for item in arguments if REGISTERED.fullmatch(item)] if door in ASKING else []
    others = [item for item in arguments if item.startswith(("run=", "checkpoint="))]
    if found and (others or len(found) > 1):
        raise UsageError(f"{' and '.join([*found, *others])} each name a trained classifier; give one of them")
    return [REGISTERED.sub(r"run=\2", item) if item in found else item for item in arguments]
