"""What is no fault of ours: the one exception for what a user got wrong, and how a full disk is told."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

FULL = {errno.ENOSPC, errno.EDQUOT}


class UsageError(Exception):
    """One or more problems a user can mend; the command prints one line for each and exits with code 2."""

    def __init__(self, *problems: str):
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class DiskFull(BaseException):
    """The disk is full; no Exception, because Optuna takes those for the failure of one trial and goes on."""


def unknown(what: str, value: object, allowed: Iterable[str]) -> str:
    """Return the line for a name that is not among `allowed`: the value, what is allowed and the nearest name."""
    names = list(allowed)
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"{what}={value!r} is unknown; allowed: {', '.join(names)}{hint}"


def collect(problems: list[str], call, *args, **kwargs):
    """Return `call(*args, **kwargs)`, or None after adding its `UsageError` lines to `problems`."""
    try:
        return call(*args, **kwargs)
    except UsageError as error:
        problems.extend(error.problems)
        return None


def disk_is_full(error: BaseException | None) -> bool:
    """Return whether a full disk is behind an error; SQLite and MLflow wrap it in errors of their own."""
    while error is not None:
        if (isinstance(error, OSError) and error.errno in FULL) or "disk is full" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
