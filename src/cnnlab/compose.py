"""What Hydra says when it cannot compose a command's configuration, in one line with the nearest real name."""

from __future__ import annotations

import re

from hydra.errors import MissingConfigException, OverrideParseException

from cnnlab.errors import one_line, unknown
from cnnlab.settings.base import Section
from cnnlab.settings.commands import Training
from cnnlab.settings.comparing import Comparing
from cnnlab.settings.keys import belongs_to, keys, nearest_key
from cnnlab.settings.sweep import Sweep
from cnnlab.settings.trained import Difference, Evaluation, Export, Prediction, Registration

NO_KEY = re.compile(r"Could not override '([^']+)'|Could not delete from config\. '([^']+)' does not exist")
NOISE = ("See https://", "To append to your config", "Set the environment variable")


def composing_error(error: Exception, door: str) -> str:
    """Return one line for what Hydra raised before the command `door` (train, sweep, ...) could begin."""
    if isinstance(error, MissingConfigException) and error.options is not None and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return unknown(group, name, error.options)
    if isinstance(error, OverrideParseException):
        key, equals, value = error.override.partition("=")
        if not equals:
            return f"{error.override!r} is too many: {door} takes KEY=VALUE (--help lists them)"
        if not value.startswith(("[", "{")):
            return f"{error.override} cannot be read; put its value into quotes: \"{key}='{value}'\""
    text = str(error)
    if found := NO_KEY.search(text):
        key = found[1] or found[2]
        taken = any(key.split(".")[0] in section.model_fields for section in SECTIONS.get(door, {}).values())
        if taken and (line := belongs_to(Training, key)):
            return line
        known = known_keys(door)
        return (
            f"{key} is not there; +{key}=VALUE adds it"
            if key in known
            else f"{key} is no setting{nearest_key(key, known)}"
        )
    lines = [" ".join(line.split()) for line in text.splitlines()]
    said = [line for line in lines if line.strip("^ ") and not line.startswith(NOISE)]
    return "configuration: " + ("; ".join(said[:2]) or one_line(error))


# What each command takes, by the section's key: '' for the top level.
SECTIONS: dict[str, dict[str, type[Section]]] = {
    "train": {"": Training},
    "sweep": {"": Training, "sweep": Sweep},
    "evaluate": {"": Evaluation},
    "predict": {"": Prediction},
    "export": {"": Export},
    "register": {"": Registration},
    "diff": {"": Difference},
    "compare": {"": Comparing},
}


def known_keys(door: str) -> list[str]:
    """Return every setting of a command, as one writes it on the command line."""
    sections = SECTIONS.get(door, SECTIONS["train"])
    return [key for name, kind in sections.items() for key in keys(kind, f"{name}." if name else "")]
