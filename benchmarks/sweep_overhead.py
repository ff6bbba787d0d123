"""What a trial costs beyond its training: 200 one-epoch trials on digits with 2 workers.

    python -m benchmarks sweep_overhead [--trials 200] [--workers 2]

Tells the seconds per trial and worker that were not training, and checks that no trial was lost, repeated or stuck.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import optuna

from benchmarks.machine import ROOT

SEARCH = ["model=mlp", "search=mlp", "sampler=random", "pruner=none", "trainer.max_epochs=1", "sweep.final_seeds=0"]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)


def measure(options: argparse.Namespace) -> dict:
    sizes = [f"sweep.n_trials={options.trials}", f"sweep.n_workers={options.workers}"]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, str(ROOT / "sweep.py"), *SEARCH, "sweep.name=overhead", *sizes],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        wall = time.perf_counter() - started
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.load_study(study_name="overhead", storage=f"sqlite:///{folder}/mlruns/sweeps.db")
        errors = [
            line
            for log in Path(folder).glob("outputs/*/*/workers/*.log")
            for line in log.read_text().splitlines()
            if "locked" in line or "Error" in line
        ]
    trials = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    states = {trial.state.name for trial in study.trials}
    trained = [trial for trial in trials if "duplicate_of" not in trial.user_attrs]
    span = (max(t.datetime_complete for t in trials) - min(t.datetime_start for t in trials)).total_seconds()
    training = sum(trial.user_attrs["result"]["training_seconds"] for trial in trained)
    overhead = (options.workers * span - training) / len(trials)
    if len(trials) != options.trials or states != {"COMPLETE"} or errors:
        sys.exit(f"lost, stuck or failed: {len(study.trials)} trials, states {sorted(states)}, errors {errors}")
    told_of = {"trials": len(trials), "workers": options.workers, "wall": wall, "span": span}
    return told_of | {"training": training / len(trained), "overhead": overhead}


def told(found: dict) -> Iterator[str]:
    rate = 3600 * found["trials"] / found["span"]
    yield (
        f"{found['trials']} trials of one epoch of `mlp` on the digits, {found['workers']} workers: {rate:.0f} trials "
        f"an hour from the first to the last, {found['wall']:.0f} s in all; {found['training']:.3f} s of training and "
        f"{found['overhead']:.3f} s of everything else a trial."
    )


summary = told
