"""On MNIST with deep_cnn and the same wall time: what pruning and searching are worth.

    CNNLAB_DATA=/path/to/datasets python benchmarks/sweep_mnist.py [--minutes 60] [--epochs 24] [--seeds 3]

A sweep with hyperband and one without pruning run for the same wall time each and are then stopped; the number of
configurations each tried is compared. Then the winner of the first and the published regularization (dropout .5, L2
.01) are trained with the same number of epochs and several seeds, and tested. All in bfloat16. Needs the machine for
itself: twice the minutes and about ten more. An epoch takes some 12 s on one core, a whole trial five minutes: 13
minutes were too few (hyperband ended five trials, three of them unpruned).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import optuna
from optuna.trial import TrialState

ROOT = Path(__file__).resolve().parents[1]
TASK = ["model=deep_cnn", "dataset=mnist", "batch_size=128", "trainer.precision=bf16-mixed"]
TASK += ["figures.enabled=false", "tracking.log_model=false"]
PUBLISHED = ["regularization.conv_dropout=0.5", "regularization.l2=0.01"]
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


def sweep(folder: Path, options: argparse.Namespace, pruner: str) -> None:
    """Sweep for the wall time, then stop; not with SIGINT, which a shell tells its background jobs to ignore."""
    command = [sys.executable, str(ROOT / "sweep.py"), *TASK, "search=deep_cnn", f"pruner={pruner}", *common(options)]
    process = subprocess.Popen([*command, f"sweep.name={pruner}", "sweep.n_trials=100000"], cwd=folder)
    time.sleep(60 * options.minutes)
    process.terminate()
    process.wait()


def common(options: argparse.Namespace) -> list[str]:
    sizes = [f"sweep.n_workers={options.workers}", f"sweep.final_seeds={options.seeds}"]
    return [f"trainer.max_epochs={options.epochs}", *sizes]


def tested(folder: Path, query: str) -> list[float]:
    """Return the test accuracies of the runs that a query finds."""
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return [run.data.metrics["test/acc"] for run in client.search_runs(experiments, query)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3, help="trainings of the winner and of the published network")
    parser.add_argument("--folder", type=Path, default=Path("outputs/sweep_mnist"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for pruner in ("hyperband", "none"):
        sweep(options.folder, options, pruner)
    storage = f"sqlite:///{options.folder.absolute()}/mlruns/sweeps.db"
    studies = {name: optuna.load_study(study_name=name, storage=storage) for name in ("hyperband", "none")}
    tried = {name: len(study.get_trials(states=ENDED)) for name, study in studies.items()}
    # With as many trials as there are, the same command only trains the winner again.
    total = len(studies["hyperband"].get_trials()) - len(studies["hyperband"].get_trials(states=(TrialState.FAIL,)))
    command = [sys.executable, str(ROOT / "sweep.py"), *TASK, "search=deep_cnn", "pruner=hyperband", *common(options)]
    subprocess.run([*command, "sweep.name=hyperband", f"sweep.n_trials={total}"], cwd=options.folder, check=True)
    seeds = "seed=" + ",".join(map(str, range(1, options.seeds + 1)))
    recipe = [sys.executable, str(ROOT / "train.py"), "-m", *TASK, *PUBLISHED, f"trainer.max_epochs={options.epochs}"]
    subprocess.run([*recipe, seeds], cwd=options.folder, check=True)

    winner = tested(options.folder, "tags.`sweep.role` = 'winner'")
    published = tested(options.folder, "tags.multirun LIKE '%'")
    print(f"configurations in {options.minutes:g} min: hyperband {tried['hyperband']}, without pruning {tried['none']}")
    print(f"ratio {tried['hyperband'] / tried['none']:.2f} (goal: 3)")
    for name, values in (("winner", winner), ("published", published)):
        print(
            f"{name}: test accuracy {statistics.fmean(values):.4f} ± {statistics.stdev(values):.4f} (n={len(values)})"
        )
    print(f"difference {statistics.fmean(winner) - statistics.fmean(published):.4f} (goal: 0.01)")


if __name__ == "__main__":
    main()
