"""On MNIST with deep_cnn and the same wall time: what pruning and searching are worth.

    CNNLAB_DATA=/path/to/datasets python -m benchmarks sweep_mnist [--minutes 45] [--epochs 20] [--seeds 3]

A sweep with hyperband and one without pruning run for the same wall time each and are then stopped; the number of
configurations each tried is compared. Then the best trial of the first, as the sweep wrote it, and the published
regularization (dropout .5, L2 .01) are trained for as many epochs with the same seeds, which the search has not seen,
and tested. All in bfloat16 and for all their epochs: early stopping would be pruning by another name. Needs the machine
for itself: twice the minutes and about thirty more. An epoch takes 12 to 50 s on one core, a whole trial four to 17
minutes.

Hyperband's own default promotes the first trial of every rung for want of others to compare it with, so a sweep begins
with as many full trainings as it has brackets and workers; `bootstrap_count=3` lets a rung wait for three.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import optuna
from optuna.trial import TrialState

from benchmarks.machine import ROOT

TASK = ["model=deep_cnn", "dataset=mnist", "batch_size=128", "trainer.precision=bf16-mixed"]
TASK += ["callbacks=best_checkpoint"]
BARE = ["figures.enabled=false", "tracking.log_model=false"]
PUBLISHED = ["regularization.conv_dropout=0.5", "regularization.l2=0.01"]
PRUNERS = {"hyperband": ["pruner=hyperband", "+pruner.bootstrap_count=3"], "none": ["pruner=none"]}
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


def sweep(options: argparse.Namespace, name: str) -> None:
    """Sweep for the wall time, then stop; not with SIGINT, which a shell tells its background jobs to ignore."""
    command = [sys.executable, str(ROOT / "sweep.py"), *TASK, "search=deep_cnn", *PRUNERS[name]]
    command += [f"trainer.max_epochs={options.epochs}", f"sweep.n_workers={options.workers}", "sweep.n_trials=100000"]
    process = subprocess.Popen([*command, f"sweep.name={name}", f"hydra.run.dir={name}"], cwd=options.folder)
    time.sleep(60 * options.minutes)
    process.terminate()
    process.wait()


def train(options: argparse.Namespace, name: str, *what: str) -> list[float]:
    """Train with each seed and return the test accuracies."""
    seeds = "seed=" + ",".join(map(str, range(1, options.seeds + 1)))
    command = [sys.executable, str(ROOT / "train.py"), "-m", *what, seeds, *BARE, f"tracking.experiment_name={name}"]
    subprocess.run(command, cwd=options.folder, check=True)
    client = mlflow.MlflowClient(f"sqlite:///{options.folder}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    return [run.data.metrics["test/acc"] for run in client.search_runs([experiment.experiment_id])]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3, help="trainings of the winner and of the published network")
    parser.add_argument("--folder", type=Path, default=Path("outputs/sweep_mnist"))


def measure(options: argparse.Namespace) -> dict:
    options.folder = options.folder.absolute()  # the commands run in it
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in PRUNERS:
        sweep(options, name)
    storage = f"sqlite:///{options.folder}/mlruns/sweeps.db"
    studies = {name: optuna.load_study(study_name=name, storage=storage) for name in PRUNERS}
    tried = {name: len(study.get_trials(states=ENDED)) for name, study in studies.items()}
    winner = train(options, "winner", "--config-dir", str(options.folder / "hyperband"), "experiment=best")
    published = train(options, "published", *TASK, *PUBLISHED, f"trainer.max_epochs={options.epochs}")
    return {"minutes": options.minutes, "tried": tried, "winner": winner, "published": published}


def told(found: dict) -> Iterator[str]:
    tried = found["tried"]
    yield (
        f"In {found['minutes']:g} minutes of `deep_cnn` on MNIST hyperband tries {tried['hyperband']} configurations, "
        f"a sweep without pruning {tried['none']} ({tried['hyperband'] / tried['none']:.2f} times)."
    )
    for name in ("winner", "published"):
        mean, deviation = statistics.fmean(found[name]), statistics.stdev(found[name])
        yield f"- {name}: test accuracy {mean:.4f} ± {deviation:.4f} (n = {len(found[name])})"
    yield f"- difference: {statistics.fmean(found['winner']) - statistics.fmean(found['published']):+.4f}"


summary = told
