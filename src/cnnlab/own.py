"""A user's own classes and functions, called as their own configuration says."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar

from hydra.utils import instantiate

from cnnlab.errors import UsageError
from cnnlab.settings.base import Called

Arguments = ParamSpec("Arguments")
Made = TypeVar("Made")


class Maker(Protocol):
    """What a section names, waiting for what cnnlab passes itself."""

    def __call__(self, *arguments: object, **keywords: object) -> object: ...


def own(section: str, settings: Called) -> Maker:
    """Return the target of a section with its arguments bound.

    `settings` come from a command line or a YAML file, never from a checkpoint. Raises UsageError for a target that
    cannot be imported; `called` does so for one that refuses its arguments.
    """
    values = settings.arguments | {"_target_": settings.target}
    return called(section, instantiate, values, _partial_=True, _convert_="all")


def made(section: str, settings: Called, kind: type[Made], what: str, **given: object) -> Made:
    """Return what the target of a section makes of its arguments and of what is `given`.

    Raises UsageError where that is not of a `kind`, which is `what` in words.
    """
    result = called(section, own(section, settings), **given)
    if not isinstance(result, kind):
        raise UsageError(f"{section}._target_={settings.target!r} returns {type(result).__name__}; it takes {what}")
    return result


def asked(call: Maker, **offers: object) -> dict[str, object]:
    """Return those of the offered arguments that `call` has a parameter for and was not given already."""
    given = call.keywords if isinstance(call, functools.partial) else {}
    try:
        parameters = inspect.signature(call).parameters
    except (TypeError, ValueError):  # some of those written in C have none
        return {}
    return {name: value for name, value in offers.items() if name in parameters and name not in given}


def called(
    section: str, call: Callable[Arguments, Made], *arguments: Arguments.args, **keywords: Arguments.kwargs
) -> Made:
    """Return what `call` returns; whatever it raises is about the values that the section gave it, in one line."""
    try:
        return call(*arguments, **keywords)
    except UsageError:
        raise
    except SystemExit as error:  # it would end the command without a word
        raise UsageError(f"{section}: it calls sys.exit({'' if error.code is None else repr(error.code)})") from error
    except Exception as error:
        # Hydra wraps what a constructor raises; the user wants the constructor's own words, and why an import failed.
        words = " ".join(str(error.__cause__ or error).split())
        raise UsageError(f"{section}: {words or type(error).__name__}") from error
