"""The words of a command line as Hydra takes them, and what of Hydra's a command does not take."""

from __future__ import annotations

import atexit
import re
import shutil
import tempfile

from hydra.conf import HydraConf

from cnnlab.errors import UsageError, is_text, printable
from cnnlab.options import name_run, names_folder, options_first
from cnnlab.quoting import name_words, quote_texts
from cnnlab.start import own_folder, typed

WORDS = {"diff": ("a", "b")}  # what the bare words of a command are the values of


def arranged(door: str, arguments: list[str]) -> list[str]:
    """Return a command's arguments as Hydra takes them: options first, paths quoted, one's own `conf/` named.

    Raises UsageError for an option that the command does not have.
    """
    if odd := [item for item in arguments if not is_text(item)]:
        raise UsageError(*(f"{printable(item)} is no UTF-8; rename the file or folder" for item in odd))
    if "--config-dir=" in arguments:
        raise UsageError("--config-dir= names no folder")
    added = [item for item in arguments if item.startswith("+hydra.")]
    fields = HydraConf.__dataclass_fields__
    if unread := [item for item in added if re.split(r"[.=]", item)[1] not in fields]:
        raise UsageError(*(f"{item}: Hydra has no such setting; --hydra-help lists them" for item in unread))
    items = options_first(quote_texts(name_run(door, name_words(arguments, WORDS.get(door, ())))))
    for item in items:
        key, _, value = item.lstrip("+~").partition("=")
        if key == "hydra/launcher":  # one that is not installed Hydra would not find
            check_launcher(value)
    own = own_folder()
    return items if own is None or names_folder(items) else [f"--config-dir={own}", *items]


def elsewhere() -> list[str]:
    """Return where the processes that torchrun or SLURM has started beside the first one have their folders.

    Nobody looks for them there: the run is the first one's.
    """
    folder = tempfile.mkdtemp(prefix="cnnlab-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return [f"hydra.run.dir={folder}", f"hydra.sweep.dir={folder}"]


def check_launcher(name: str) -> None:
    """Raise UsageError for a launcher of Hydra's that runs the jobs of a multirun in processes of its own."""
    if name != "basic":
        raise UsageError(
            f"hydra/launcher={name} runs each job in a process of its own, where its exit code, its signals and the "
            f"table of the jobs are lost; leave it out, and for jobs side by side take {typed('sweep')} with "
            "sweep.n_workers, for SLURM one sbatch a job (docs/many_devices.md)"
        )
