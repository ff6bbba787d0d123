"""Seconds from `python train.py` to the first optimizer step and from the last step to the end; resident memory.

    CNNLAB_DATA=... python -m benchmarks start [--runs 7] [OVERRIDE ...]

The end is validation, test, the model's export, the pictures and all that is kept of a run. One command more, which is
not counted, comes first, so that the files are in memory; another one tells what was imported before the first step.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import GIVEN
from benchmarks.machine import ROOT
from benchmarks.quartiles import quartiles

SMALL = ("model=deep_cnn", "trainer.max_epochs=2")
IMPORT = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\w+)")
SHOWN = 12  # packages


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("overrides", nargs="*", default=list(SMALL), help="of train.py")


def measure(options: argparse.Namespace) -> dict:
    overrides = options.overrides
    found: dict = {"overrides": overrides, "start": [], "end": [], "whole": [], "memory": []}
    with tempfile.TemporaryDirectory() as folder:
        watched(Path(folder), overrides)
        for _ in range(options.runs):
            for name, seconds in watched(Path(folder), overrides).items():
                found[name].append(seconds)
        found["imports"] = imported(Path(folder), overrides)
    return found


def watched(folder: Path, overrides: Sequence[str]) -> dict[str, float]:
    """Train once; return the seconds to the first step, after the last one, and in all, and the most resident MiB."""
    file = folder / "steps.json"
    began = time.time()
    command = [sys.executable, "-m", "benchmarks.watched", str(file), "train", *overrides]
    subprocess.run(command, cwd=folder, env=environment(), check=True, capture_output=True)
    ended = time.time()
    steps = json.loads(file.read_text(encoding="utf-8"))
    return {
        "start": steps["first"] - began,
        "end": ended - steps["last"],
        "whole": ended - began,
        "memory": steps["memory"],
    }


def imported(folder: Path, overrides: Sequence[str]) -> dict[str, float]:
    """Return the seconds that importing took by package, as `python -X importtime` tells them, the longest first."""
    flags = ["-X", "importtime", str(ROOT / "train.py"), *overrides, "trainer.max_epochs=1"]
    done = subprocess.run([sys.executable, *flags], cwd=folder, env=environment(), capture_output=True, text=True)
    seconds: Counter[str] = Counter()
    for line in done.stderr.splitlines():
        if match := IMPORT.match(line):
            seconds[match[2]] += int(match[1]) / 1e6
    return dict(seconds.most_common(SHOWN))


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "src"), *filter(None, [GIVEN.get("PYTHONPATH")])])
    return {name: value for name, value in GIVEN.items() if name != "MLFLOW_TRACKING_URI"} | {"PYTHONPATH": path}


def told(found: dict) -> Iterator[str]:
    runs = len(found["start"])
    yield f"`python train.py {' '.join(found['overrides'])}`, seconds, {runs} runs one after the other:"
    yield ""
    names = {"start": "to the first optimizer step", "end": "after the last one", "whole": "the whole command"}
    for name, words in names.items():
        low, middle, high = quartiles(found[name])
        yield f"- {words}: {middle:.2f} (quartiles {low:.2f} to {high:.2f})"
    if "memory" in found:  # not in results of earlier versions
        low, middle, high = quartiles(found["memory"])
        yield f"- most resident memory: {middle:.0f} MiB (quartiles {low:.0f} to {high:.0f}), libraries' pages included"
    slowest = ", ".join(f"{name} {seconds:.2f}" for name, seconds in found["imports"].items())
    yield f"- imports by package, under `python -X importtime`, which makes them slower: {slowest}"


def summary(found: dict) -> Iterator[str]:
    start, end = (statistics.median(found[name]) for name in ("start", "end"))
    memory = f"; at most {statistics.median(found['memory']):.0f} MiB resident" if "memory" in found else ""
    yield (
        f"From `python train.py {' '.join(found['overrides'])}` to its first optimizer step: {start:.1f} s; from the "
        f"last one to the end, with test, export and pictures: {end:.1f} s{memory} "
        f"(medians of {len(found['start'])} runs)."
    )
