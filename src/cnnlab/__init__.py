"""A research harness for small image classifiers: from cnnlab import train, sweep, compare, evaluate, predict, load."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnnlab.library import compare, evaluate, export, load, predict, register, sweep, train

__version__ = "0.1.0"
__all__ = ["compare", "evaluate", "export", "load", "predict", "register", "sweep", "train"]


def __getattr__(name: str) -> object:
    """Return a function of the library when it is asked for: importing torch, Lightning and MLflow takes seconds."""
    if name not in __all__:
        raise AttributeError(f"module 'cnnlab' has no attribute {name!r}")
    from cnnlab import library

    return getattr(library, name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
