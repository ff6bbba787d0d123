"""What every command does with an error: plain lines for the user's, a traceback for ours, and a true exit code."""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from cnnlab import lean, process
from cnnlab.command_line import arranged, check_launcher, elsewhere
from cnnlab.errors import Incomplete, UsageError, disk_is_full, hidden, one_line, server_is_away
from cnnlab.job import job_of_hydra
from cnnlab.multirun import Ending, ending_of, show_summary
from cnnlab.own_path import add_to_path
from cnnlab.signals import Interruption, interruptible, notes_of
from cnnlab.start import CONF

USAGE = 2
PATIENCE = 3.0  # seconds in which the first process of a training tells of a mistake that all others have, too
# What each command calls with its job. The module is imported when the configuration is there: it takes seconds.
RUN = {
    "train": ("cnnlab.training", "train"),
    "sweep": ("cnnlab.sweeps.run", "sweep"),
    "evaluate": ("cnnlab.evaluation", "evaluate"),
    "predict": ("cnnlab.prediction", "predict"),
    "export": ("cnnlab.exporting", "export"),
    "register": ("cnnlab.registering", "register"),
    "diff": ("cnnlab.difference", "diff"),
    "compare": ("cnnlab.verdicts.run", "compare"),
}
_codes = [0]
_begun: list[Path] = []  # folders of the jobs whose configuration was composed
_jobs_own: list[Exception] = []  # what jobs raised; Hydra raises others before and after them


def enter(door: str) -> NoReturn:
    """Run the command `door` for each job of its command line and exit with the worst of their codes."""
    process.set_environment()
    hide_passwords()
    try:
        sys.argv[1:] = arranged(door, sys.argv[1:])
        if door == "train" and process.follows_a_first():
            sys.argv[1:] += elsewhere()
    except UsageError as error:
        tell(error.problems)
        sys.exit(USAGE)
    debugging = "HYDRA_FULL_ERROR" in os.environ
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises what it cannot compose, and does not print it
    try:
        if any(item in ("--help", "-h") for item in sys.argv[1:]):
            from cnnlab.help import help_text

            print_out(help_text(door, sys.argv[1:]))
            sys.exit(0)
        run_jobs(door)
        sys.stdout.flush()
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if debugging or _begun:
            raise
        from cnnlab.compose import composing_error

        tell([composing_error(error, door)])
        sys.exit(USAGE)
    except BrokenPipeError:
        _leave_reader()
    except OSError as error:
        if debugging or error in _jobs_own:
            raise
        tell([f"hydra.run.dir: {error.filename} cannot be made ({error.strerror}); choose another folder"])
        sys.exit(USAGE)
    process.leave(max(_codes))


def hide_passwords() -> None:
    """Let neither a traceback nor a line of the log tell the password of an address, Hydra's of each job among them."""
    made = logging.getLogRecordFactory()

    def record(*args: object, **keywords: object) -> logging.LogRecord:
        line = made(*args, **keywords)
        if "://" in (text := line.getMessage()):
            line.msg, line.args = hidden(text), None
        return line

    logging.setLogRecordFactory(record)
    sys.excepthook = show_error


def show_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of a fault of ours as Python does, without the passwords of addresses."""
    print(hidden("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)


def run_jobs(door: str) -> None:
    """Let Hydra compose the command line and run each of its jobs; a multirun has several."""

    endings: list[Ending] = []
    multiruns: set[Path] = set()

    def run(config: DictConfig) -> None:
        job = job_of_hydra(config)
        multiruns.update([Path(job.multirun).absolute()] if job.multirun else [])
        _hide_passwords(Path(job.multirun) if job.multirun else None)
        with plain_errors(), ending_of(job, endings) as ending:
            check_folder(job.folder)
            check_launcher(str(HydraConfig.get().runtime.choices.get("hydra/launcher")))
            add_to_path(job.own_folder)
            module, function = RUN[door]
            with process.uncollected():
                lean.import_for(config)
                story = getattr(import_module(module), function)
            result = story(job)
            if door == "train":
                ending.fill(result)
            if waits := getattr(result, "waits", None):
                raise Incomplete(waits)

    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=door)(run)()
    finally:
        if door == "train":
            show_summary(endings)
        for folder in multiruns:
            _remove_empty_multirun(folder)


def print_out(text: str) -> None:
    """Print a text whose reader may go away before its end, as `| head` does."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _leave_reader()


def _leave_reader() -> NoReturn:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn a user's mistake, an interruption and a full disk into one line each on stderr and an exit code.

    A mistake does not raise, so that the other jobs of a multirun still run; an interruption ends them all.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    _begun.append(folder)
    try:
        with interruptible():
            yield
    except UsageError as error:
        if process.follows_a_first():
            time.sleep(PATIENCE)  # that one says the same; who started them ends all others with whichever ends first
        else:
            tell(error.problems)
        _codes.append(USAGE)
    except Incomplete as error:
        tell(error.problems)
        for line in notes_of(error):
            print(line, file=sys.stderr)
        _codes.append(1)
    except Exception as error:
        if server_is_away(error):
            tell([f"the tracking server is away: {one_line(error)}"])
        elif not disk_is_full(error):
            _jobs_own.append(error)
            raise
        else:
            tell([f"the disk is full: no room under {folder} or in the tracking store; the run is not complete"])
        _codes.append(1)
    except Interruption as interruption:
        if not process.follows_a_first():  # which is told, too, and tells
            tell([f"stopped by {interruption.name}"])
        for line in notes_of(interruption):
            print(hidden(line), file=sys.stderr)
        sys.exit(interruption.exit_code)
    finally:
        remove_empty(folder)


def check_folder(folder: Path) -> None:
    """Raise UsageError for a folder that a job's files cannot be written to; one that writes none has no own folder."""
    if folder.resolve() != Path.cwd() and not os.access(folder, os.W_OK):
        raise UsageError(f"hydra.run.dir: {folder} cannot be written; choose another folder")


def tell(problems: Iterable[str]) -> None:
    """Print problems, one line each, on stderr."""
    for line in problems:
        print(f"error: {hidden(line)}", file=sys.stderr)


def _hide_passwords(folder: Path | None) -> None:
    """Take the passwords of addresses out of what Hydra has written about a multirun."""
    if folder is None or not (file := folder / "multirun.yaml").is_file():
        return
    text = file.read_text(encoding="utf-8")
    if hidden(text) != text:
        file.write_text(hidden(text), encoding="utf-8")


def _remove_empty_multirun(folder: Path) -> None:
    """Take back the folder of a multirun whose jobs all wrote nothing: it holds no more than what was asked for."""
    if folder.is_dir() and [item.name for item in folder.iterdir()] == ["multirun.yaml"]:
        (folder / "multirun.yaml").unlink()
        remove_empty(folder)


def remove_empty(folder: Path) -> None:
    """Take back the folders Hydra made for a job that wrote nothing, as one that is refused does."""
    with suppress(OSError):  # not empty, or already gone
        for made in (folder, *folder.parents):
            if made == Path.cwd() or made in Path.cwd().parents:
                return
            made.rmdir()
