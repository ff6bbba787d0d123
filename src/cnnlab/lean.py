"""Imports what a training needs, and not what the libraries import besides: half of a command's seconds to its start.

torchmetrics imports SciPy's signals, all of torchvision and matplotlib's pyplot wherever they are installed, for
metrics of sounds and pictures and for plots, which cnnlab never asks of it. Lightning imports torch's compiler to know
its class, and torch's optimizers import it to tell it that they are not to be compiled.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from unittest import mock

from omegaconf import DictConfig, OmegaConf

TARGET = "_target_"  # the key that names code
OPTUNAS = ("sampler", "pruner")  # sections that name classes of Optuna's
OPTIONAL = ("scipy", "torchvision", "matplotlib")  # to torchmetrics
IMPORTS = "imports"  # the name of threads that import ahead


def import_for(config: DictConfig) -> None:
    """Import the libraries for a command: leanly, unless its configuration names code of the user's own."""
    sections = OmegaConf.to_container(config, resolve=False)
    assert isinstance(sections, dict)
    if not names_code({key: value for key, value in sections.items() if key not in OPTUNAS}):
        import_libraries()


def import_libraries() -> None:
    """Import torch and torchmetrics without what only others would use.

    For a process in which nobody but cnnlab uses them: torchmetrics says of what it was imported without that it is not
    installed. The compiler is loaded when somebody asks for it.
    """
    from cnnlab import compiler

    compiler.stand_in()
    with without(OPTIONAL):
        import torchmetrics  # noqa: F401


def import_ahead(modules: Sequence[str]) -> threading.Thread:
    """Import modules beside whatever is done; one that cannot be imported says so to whoever needs it."""

    def work() -> None:
        for name in modules:
            with suppress(Exception):
                import_module(name)

    thread = threading.Thread(target=work, name=IMPORTS, daemon=True)
    thread.start()
    return thread


def wait_for_imports() -> None:
    """Wait until all that is imported ahead is there."""
    for thread in threading.enumerate():
        if thread.name == IMPORTS:
            thread.join()


def names_code(config: object) -> bool:
    """Return whether plain settings name code of somebody's own, in whatever depth."""
    if isinstance(config, Mapping):
        return TARGET in config or any(names_code(item) for item in config.values())
    return isinstance(config, Sequence) and not isinstance(config, str) and any(names_code(item) for item in config)


@contextmanager
def without(packages: Sequence[str]) -> Iterator[None]:
    """Let lightning_utilities, which torchmetrics asks, answer inside the block that some packages are not there."""
    from lightning_utilities.core import imports

    requirement = imports.RequirementCache
    available, known = imports.package_available, requirement.__bool__

    def is_available(package_name: str) -> bool:
        return package_name not in packages and available(package_name)

    def is_known(asked: imports.RequirementCache) -> bool:
        return asked.requirement not in packages and known(asked)

    with (
        mock.patch.object(imports, "package_available", is_available),
        mock.patch.object(requirement, "__bool__", is_known),
    ):
        yield
