"""What a command takes: its groups, and every setting with its value, its range and its sentence."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from cnnlab.compose import SECTIONS
from cnnlab.errors import shown
from cnnlab.job import search_path
from cnnlab.options import OWN_FOLDER
from cnnlab.settings.base import Own, Section
from cnnlab.settings.keys import section_class
from cnnlab.settings.read import allowed
from cnnlab.start import CONF, typed

WIDTH = 80


def help_text(door: str, arguments: Sequence[str]) -> str:
    """Return the help of the command `door`, for the groups that `arguments` choose.

    Raises what Hydra raises for arguments it cannot compose.
    """
    overrides, own = _split(arguments)
    if own:
        overrides.append(search_path(Path(own)))
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(door, overrides, return_hydra_config=True)
        loader = GlobalHydra.instance().config_loader()
        groups = [group for group in config.hydra.runtime.choices if not group.startswith("hydra/")]
        options = {group: loader.get_group_options(group, config_name=door, overrides=overrides) for group in groups}
    about = OmegaConf.to_container(config.hydra.help, resolve=True)
    del config.hydra
    values = OmegaConf.to_container(config, resolve=False)
    assert isinstance(about, dict) and isinstance(values, dict)
    plain = {str(key): value for key, value in values.items()}
    lines = [str(about["header"]).rstrip(), "", "Groups, chosen by GROUP=OPTION:"]
    for group, names in options.items():
        lines += _wrapped(f"{group}: {', '.join(names)}")
    lines += ["", "Settings, changed by KEY=VALUE; here with their values:"]
    for name, kind in SECTIONS[door].items():
        section = plain[name] if name else plain
        assert isinstance(section, Mapping)
        for line in settings_lines(kind, section, f"{name}." if name else ""):
            lines += _wrapped(line)
    return as_typed("\n".join([*lines, "", str(about["footer"]).rstrip()]))


def as_typed(text: str) -> str:
    """Return a help text with the commands as they are typed here: of an installed package there is no train.py."""
    for command in SECTIONS:
        text = text.replace(f"python {command}.py", typed(command))
    return text.replace("`make ui`", f"`{typed('ui')}`")


def settings_lines(kind: type[Section], values: Mapping[str, object], path: str = "") -> Iterator[str]:
    """Yield a line for each setting of a section: `key=value: what it is; what it takes`."""
    for name, field in kind.model_fields.items():
        key = field.alias or name
        value = values.get(key)
        section = section_class(field, value)
        if section is not None and isinstance(value, Mapping):
            yield from settings_lines(section, value, f"{path}{key}.")
        elif section is None:
            yield f"{path}{key}={_short(value)}: {field.description}; {allowed(field.annotation, field.metadata)}"
        else:
            yield f"{path}{key}={_short(value)}: {field.description}"
    if kind.added is not None:
        yield f"{path}NAME._target_: one of your own, under any NAME; docs/adding_your_own.md"
    if kind is not Own:
        return
    for key, value in values.items():
        if key not in ("_target_", "name"):
            yield f"{path}{key}={_short(value)}: an argument of your own code"


def _short(value: object) -> str:
    return value if isinstance(value, str) else shown(value)


def _split(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """Return the overrides among a command's arguments, and the user's own folder of configuration."""
    own = None
    overrides = []
    rest = iter(arguments)
    for item in rest:
        if item in OWN_FOLDER:
            own = next(rest, None)
        elif item.startswith("--config-dir="):
            own = item.partition("=")[2]
        elif not item.startswith("-"):
            overrides.append(item)
    return overrides, own


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, WIDTH, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False)
