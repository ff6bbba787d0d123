"""Trials an hour of a sweep whose workers train trials together, against the same sweep without, by turns.

    python -m benchmarks.fused_sweep [--model dnn] [--dataset mnist] [--trials 64] [--epochs 2] [--fused 16]
                                     [--workers 2] [--repeats 1] [--json FILE]

Learning rate, L2 and label smoothing are searched at random, without pruning and early stopping: both train as
much. Counted from the first trial's start to the last trial's end. The seconds of CPU are those of the whole command,
of which some ten a process are imports: on a machine that does other things they tell more than the clock.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import optuna

ROOT = Path(__file__).resolve().parents[1]
SEARCH = [
    "search=none",
    '+search.optimizer.lr="tag(log,interval(1e-4,1e-2))"',
    '+search.regularization.l2="tag(log,interval(1e-6,1e-3))"',
    '+search.regularization.label_smoothing="interval(0.0,0.2)"',
]
PLAIN = [
    "sampler=random",
    "pruner=none",
    "trainer.precision=32-true",
    "callbacks=best_checkpoint",
    "sweep.final_seeds=0",
    "sweep.name=speed",
]


def measured(options: argparse.Namespace, fused: int) -> dict[str, float]:
    """Run one sweep in a folder of its own; return its trials an hour, CPU seconds and best accuracy."""
    with tempfile.TemporaryDirectory() as folder:
        what = [f"model={options.model}", f"dataset={options.dataset}", f"trainer.max_epochs={options.epochs}"]
        how = [f"sweep.n_workers={options.workers}", f"sweep.n_trials={options.trials}", f"sweep.fused={fused}"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, str(ROOT / "sweep.py"), *what, *SEARCH, *PLAIN, *how]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        ended = optuna.load_study(study_name="speed", storage=f"sqlite:///{folder}/mlruns/sweeps.db").get_trials()
    first = min(trial.datetime_start for trial in ended if trial.datetime_start)
    last = max(trial.datetime_complete for trial in ended if trial.datetime_complete)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    accuracy = max(trial.value for trial in ended if trial.value is not None)
    return {"rate": 3600 * len(ended) / (last - first).total_seconds(), "cpu": cpu, "accuracy": accuracy}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dnn")
    parser.add_argument("--dataset", default="mnist")
    for name, default in {"trials": 64, "epochs": 2, "fused": 16, "workers": 2, "repeats": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    turns = []
    for _ in range(options.repeats):
        turns.append((measured(options, 1), measured(options, options.fused)))
        for what, one in zip(("each by itself", f"{options.fused} together"), turns[-1], strict=True):
            told = f"{one['rate']:.0f} trials an hour, {one['cpu']:.0f} s of CPU, best val/acc {one['accuracy']:.4f}"
            print(f"{options.model} on {options.dataset}, {what}: {told}", flush=True)
    rates, cpus = (
        statistics.median(together[key] / alone[key] for alone, together in turns) for key in ("rate", "cpu")
    )
    print(f"median of {len(turns)}: {rates:.2f} times the trials an hour, {cpus:.2f} times the CPU")
    if options.json:
        options.json.write_text(json.dumps({"command": " ".join(sys.argv), "turns": turns}, indent=1) + "\n")


if __name__ == "__main__":
    main()
