"""Trials an hour with two workers against one, for a model that one core can feed.

    python -m benchmarks sweep_workers [--trials 100] [--repeats 3]

Needs two idle cores. Counts from the first trial's start to the last trial's end: starting a worker is paid once, and
with 40 trials the second worker's start still weighs (1.5 times where 100 trials gave 1.8).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import optuna

from benchmarks.machine import ROOT

SWEEP = ["model=mlp", "search=mlp", "sampler=random", "pruner=none", "callbacks=best_checkpoint"]
SWEEP += ["trainer.max_epochs=5", "sweep.final_seeds=0", "sweep.name=speed"]


def trials_an_hour(workers: int, trials: int) -> float:
    """Run one sweep in a folder of its own; return its rate."""
    with tempfile.TemporaryDirectory() as folder:
        sizes = [f"sweep.n_workers={workers}", f"sweep.n_trials={trials}"]
        command = [sys.executable, str(ROOT / "sweep.py"), *SWEEP, *sizes]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.load_study(study_name="speed", storage=f"sqlite:///{folder}/mlruns/sweeps.db")
        ended = study.get_trials()
    first, last = min(trial.datetime_start for trial in ended), max(trial.datetime_complete for trial in ended)
    return 3600 * len(ended) / (last - first).total_seconds()


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)


def measure(options: argparse.Namespace) -> dict:
    # One after the other within each repeat: a machine that slows down slows both.
    rates = [(trials_an_hour(1, options.trials), trials_an_hour(2, options.trials)) for _ in range(options.repeats)]
    return {"trials": options.trials, "rates": rates}


def told(found: dict) -> Iterator[str]:
    ratios = [two / one for one, two in found["rates"]]
    one, two = (statistics.median(rates) for rates in zip(*found["rates"], strict=True))
    yield (
        f"Sweeps of {found['trials']} trials of `mlp` on the digits: one worker does {one:.0f} trials an hour, two "
        f"{two:.0f}: {statistics.median(ratios):.2f} times (medians, by turns, n = {len(ratios)})."
    )


summary = told
