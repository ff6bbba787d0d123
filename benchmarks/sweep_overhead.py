"""What a trial costs beyond its training: 200 one-epoch trials on digits with 2 workers.

    python benchmarks/sweep_overhead.py [--trials 200] [--workers 2]

Prints the seconds per trial and worker that were not training, and checks that no trial was lost, repeated or stuck.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna

ROOT = Path(__file__).resolve().parents[1]
SEARCH = ["model=mlp", "search=mlp", "sampler=random", "pruner=none", "trainer.max_epochs=1", "sweep.final_seeds=0"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
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
    print(f"{len(study.trials)} trials, states {sorted(states)}, {len(errors)} errors in the workers' logs")
    rate = 3600 * len(trials) / span
    print(f"wall time {wall:.1f} s, from the first trial to the last {span:.1f} s: {rate:.0f} trials an hour")
    print(f"training {training / len(trained):.3f} s a trial; overhead {overhead:.3f} s a trial and worker")
    if len(trials) != options.trials or states != {"COMPLETE"} or errors:
        sys.exit("lost, stuck or failed trials: see above")


if __name__ == "__main__":
    main()
