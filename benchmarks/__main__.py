"""Measure, print and keep what was found: all that `make bench` does, or one benchmark with options of its own.

A whole benchmark is kept in benchmarks/results, from which the figures of README.md and docs/measured.md are
written, and so are whole recipes of `epochs`; one with options that ask for less, or for something else, in
outputs/benchmarks.
"""

# ruff: noqa: E402
from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from cnnlab import process

process.set_environment()  # first, as in train.py: it tells OpenMP how to wait, before torch is loaded

# isort: split
from benchmarks import results
from benchmarks.benchmarks import BENCHMARKS, USUAL
from cnnlab.errors import UsageError


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, formatter_class=raw)
    commands = parser.add_subparsers(dest="name")
    for name, module in BENCHMARKS.items():
        title = module.__doc__.splitlines()[0].replace("%", "%%")
        command = commands.add_parser(name, help=title, description=module.__doc__, formatter_class=raw)
        module.add_options(command)
        command.add_argument("--results", type=Path, help="folder for what was found")
    options = parser.parse_args()
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    for name in [options.name] if options.name else USUAL:
        usual = parser.parse_args([name])
        given = options if options.name else usual
        module = BENCHMARKS[name]
        folder = given.results or (results.ELSEWHERE if results.changed(module, given, usual) else results.RESULTS)
        try:
            results.run(name, module, given, command, folder)
        except UsageError as error:
            sys.exit("\n".join(f"error: {line}" for line in error.problems))
        if folder == results.RESULTS:
            results.write_pages(BENCHMARKS)


if __name__ == "__main__":
    main()
