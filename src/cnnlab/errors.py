"""What is no fault of ours: the one exception for what a user got wrong, and how anything is told in one line."""

from __future__ import annotations

import difflib
import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pickle import UnpicklingError
from typing import ParamSpec, TypeVar

# What torch and zipfile raise for files that are damaged, foreign or hostile.
UNREADABLE = (UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, AttributeError)
FULL = {errno.ENOSPC, errno.EDQUOT}

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Told(Exception):
    """One or more problems; the command prints one line for each instead of a traceback."""

    def __init__(self, *problems: str):
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class UsageError(Told):
    """What a user can mend; exit code 2."""


class Incomplete(Told):
    """What a command could not do, beside all that it did; exit code 1."""


class Diverged(Incomplete):
    """The loss of a training is no longer a number."""


def diverged(number: float, epoch: int, where: str, rate: float) -> Diverged:
    """Return the error for a loss of no number in an epoch, counted from 1; `where` in it, at which learning rate."""
    return Diverged(
        f"the loss is {number} in epoch {epoch}, {where}, at a learning rate of {rate:g}: the training has diverged; a "
        "smaller optimizer.lr is the usual remedy"
    )


class DiskFull(BaseException):
    """The disk is full; no Exception, because Optuna takes those for the failure of one trial and goes on."""


class DatabaseHeld(BaseException):
    """Another process has held a database for longer than anybody waits; no Exception, for the same reason."""


def shown(value: object) -> str:
    """Return a value as YAML has it, texts in quotes."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return "[" + ", ".join(shown(item) for item in value) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)


def nearest(value: object, allowed: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the nearest of the allowed names, or nothing where none is near."""
    near = difflib.get_close_matches(str(value), list(allowed), n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else ""


def unknown(what: str, value: object, allowed: Iterable[str]) -> str:
    """Return the line for a name that is not among `allowed`: the value, what is allowed and the nearest name."""
    names = list(allowed)
    return f"{what}={shown(value)} is unknown; allowed: {', '.join(names)}{nearest(value, names)}"


def refused(what: str, value: object, allowed: str) -> str:
    """Return the line for a value of the wrong type or out of its range."""
    return f"{what}={shown(value)} is not allowed; {what} takes {allowed}"


def is_text(name: str) -> bool:
    """Return whether a name is one in UTF-8; file systems hold others, which Python tells in surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def printable(name: str) -> str:
    """Return a name with the bytes that are no UTF-8 as `\\xff`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


# The password of an address, or all that stands before the @ of a web address: a token needs no name.
PASSWORD = re.compile(r"(\w[\w+.-]*://[^\s:/@]*):[^\s/]*@|(https?://)[^\s/:@]+@")


def hidden(text: str) -> str:
    """Return a text that leaves the process, with `***` for the password in each address: `http://alice:***@host`."""
    return PASSWORD.sub(lambda found: f"{found[1]}:***@" if found[1] else f"{found[2]}***@", text)


def one_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its name where it says nothing."""
    lines = hidden(str(error)).strip().splitlines()
    return " ".join(lines[0].split()) if lines else type(error).__name__


def described(error: BaseException) -> str:
    """Return an error's name and its first line."""
    name, line = type(error).__name__, one_line(error)
    return name if line == name else f"{name}: {line}"


def collect(
    problems: list[str], call: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result | None:
    """Return `call(*args, **kwargs)`, or None after adding its `UsageError` lines to `problems`."""
    try:
        return call(*args, **kwargs)
    except UsageError as error:
        problems.extend(error.problems)
        return None


def behind(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those it came from; SQLite, MLflow and Optuna wrap them in errors of their own."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def server_is_away(error: BaseException | None) -> bool:
    """Return whether a tracking server that does not answer, or with an error alone, is behind an error of MLflow."""
    texts = map(str, behind(error))
    return any(text.startswith("API request to ") and "failed with" in text for text in texts)


def database_is_held(error: BaseException | None) -> bool:
    """Return whether a SQLite database that another process holds is behind an error."""
    return any("database is locked" in str(each) for each in behind(error))


def disk_is_full(error: BaseException | None) -> bool:
    """Return whether a full disk is behind an error."""
    return any(
        (isinstance(each, OSError) and each.errno in FULL) or "disk is full" in str(each) for each in behind(error)
    )
