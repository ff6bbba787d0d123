"""The command of an installed package: `cnnlab train model=deep_cnn`, `cnnlab ui`, and the others."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from cnnlab import __version__
from cnnlab.errors import unknown
from cnnlab.start import STYLE

COMMANDS = {
    "train": "train, track and test one classifier",
    "sweep": "search the best configuration",
    "evaluate": "measure a trained classifier and draw what it does",
    "predict": "ask a trained classifier about images",
    "export": "write a trained classifier for other programs: ONNX, torch.export, weights",
    "register": "put a trained classifier into MLflow's registry, as its dataset's champion",
    "diff": "what differs between two runs: settings, code, data, results",
    "compare": "is one setting better than another? a verdict over seeds",
    "report": "a leaderboard of all runs: mean and spread over seeds",
    "ui": "open MLflow's pages over the runs",
    "sync": "deliver what runs have left on this machine for a tracking server",
    "doctor": "examine store, packages, devices and data; each problem with its remedy",
}


def main() -> NoReturn:
    """Run the command that the first argument names."""
    os.environ.setdefault(STYLE, "package")
    command = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if command in COMMANDS:
        del sys.argv[1]
    if command in ("--help", "-h", "help"):
        print("\n".join(["usage: cnnlab COMMAND [KEY=VALUE ...]", "", *_listed(), "", _more()]))
        sys.exit(0)
    if command in ("--version", "-V"):
        print(f"cnnlab {__version__}")
        sys.exit(0)
    if command not in COMMANDS:
        print(f"error: {unknown('command', command, COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    _run(command)


def _run(command: str) -> NoReturn:
    if command == "report":
        from cnnlab.report.__main__ import main as report

        sys.exit(report())
    if command == "doctor":
        from cnnlab.doctor import main as doctor

        doctor()
    if command == "sync":
        from cnnlab.tracking.sync import main as sync

        sync()
    if command == "ui":
        from cnnlab.tracking.ui import main as ui

        ui()
    from cnnlab.cli import enter

    enter(command)


def _listed() -> list[str]:
    return [f"  {name:<9} {about}" for name, about in COMMANDS.items()]


def _more() -> str:
    return "cnnlab COMMAND --help lists what a command takes."


if __name__ == "__main__":
    main()
