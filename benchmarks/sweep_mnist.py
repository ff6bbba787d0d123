"""On MNIST with deep_cnn and the same wall time: what pruning and searching are worth.

    CNNLAB_DATA=/path/to/datasets python benchmarks/sweep_mnist.py [--minutes 45] [--epochs 20] [--seeds 3]

A sweep with hyperband and one without pruning run for the same wall time each and are then stopped; the number of
configurations each tried is compared. Then the winner of the first and the published regularization (dropout .5, L2
.01) are trained with the same number of epochs and several seeds, and tested. All in bfloat16. Needs the machine for
itself: twice the minutes and about twenty more. An epoch takes some 12 s on one core, a whole trial four minutes: 13
minutes were too few (hyperband ended five trials, three of them unpruned).

Hyperband's own default promotes the first trial of every rung for want of others to compare it with, so a sweep begins
with as many full trainings as it has brackets and workers; `bootstrap_count=3` lets a rung wait for three.
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
PRUNERS = {"hyperband": ["pruner=hyperband", "+pruner.bootstrap_count=3"], "none": ["pruner=none"]}
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


def command_of(options: argparse.Namespace, name: str, n_trials: int) -> list[str]:
    command = [sys.executable, str(ROOT / "sweep.py"), *TASK, "search=deep_cnn", *PRUNERS[name], *common(options)]
    return [*command, f"sweep.name={name}", f"sweep.n_trials={n_trials}"]


def sweep(options: argparse.Namespace, name: str) -> None:
    """Sweep for the wall time, then stop; not with SIGINT, which a shell tells its background jobs to ignore."""
    process = subprocess.Popen(command_of(options, name, 100_000), cwd=options.folder)
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
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3, help="trainings of the winner and of the published network")
    parser.add_argument("--folder", type=Path, default=Path("outputs/sweep_mnist"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in PRUNERS:
        sweep(options, name)
    storage = f"sqlite:///{options.folder.absolute()}/mlruns/sweeps.db"
    studies = {name: optuna.load_study(study_name=name, storage=storage) for name in PRUNERS}
    tried = {name: len(study.get_trials(states=ENDED)) for name, study in studies.items()}
    # With as many trials as there are, the same command only trains the winner again.
    total = len(studies["hyperband"].get_trials()) - len(studies["hyperband"].get_trials(states=(TrialState.FAIL,)))
    subprocess.run(command_of(options, "hyperband", total), cwd=options.folder, check=True)
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
