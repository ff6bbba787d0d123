"""What every command does with an error: plain lines for the user's, a traceback for ours, and a true exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from hydra.core.hydra_config import HydraConfig

from cnnlab.errors import UsageError, disk_is_full
from cnnlab.interruption import Interruption, interruptible

USAGE = 2
_codes = [0]


def enter(main: Callable[[], None]) -> NoReturn:
    """Run a command's `@hydra.main` function and exit with the worst code of its jobs; a multirun has several."""
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(max(_codes))


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn a user's mistake, an interruption and a full disk into one line each on stderr and an exit code.

    A mistake does not raise, so that the other jobs of a multirun still run; an interruption ends them all.
    """
    try:
        with interruptible():
            yield
    except UsageError as error:
        _report(error.problems, USAGE)
        _remove_empty_output()
    except Exception as error:
        if not disk_is_full(error):
            raise
        folder = Path(HydraConfig.get().runtime.output_dir)
        _report([f"the disk is full: no room under {folder} or in the tracking store; the run is not complete"], 1)
    except Interruption as interruption:
        _report([f"stopped by {interruption.name}"], interruption.exit_code)
        sys.exit(interruption.exit_code)


def _report(lines: list[str], code: int) -> None:
    for line in lines:
        print(f"error: {line}", file=sys.stderr)
    _codes.append(code)


def _remove_empty_output() -> None:
    """Take back the folder Hydra made for a run that never started."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    with suppress(OSError):  # not empty, or already gone
        folder.rmdir()
        folder.parent.rmdir()
