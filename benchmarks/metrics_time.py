"""What the chosen metrics add to an epoch: `metrics=[balanced_acc,f1]` beside `metrics=[]`.

    python -m benchmarks metrics_time [--dataset digits] [--pairs 100]

One training of `dnn`, tracking and checkpoints on, that measures them in every other epoch: what else the machine does
then disturbs neighbours alike. Told: median and minimum of an epoch's seconds with and without, and the median
difference of neighbours with its 95 % interval (of the median, by order statistics).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import torch
from pytorch_lightning import Callback, Trainer

from benchmarks.quartiles import median_interval
from cnnlab import process
from cnnlab.classifier import Classifier
from cnnlab.job import compose_job
from cnnlab.plan import make_plan, read_training
from cnnlab.settings.read import resolve
from cnnlab.tracking.run import open_run
from cnnlab.training import fit

CHOSEN = "metrics=[balanced_acc,f1]"


class EveryOther(Callback):
    """Takes the metrics away in even epochs."""

    def on_train_epoch_start(self, trainer: Trainer, classifier: Classifier) -> None:  # type: ignore[override]
        if trainer.current_epoch == 0:
            self.measures = classifier.measures
        classifier.measures = self.measures if trainer.current_epoch % 2 else None


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--pairs", type=int, default=100)


def measure(options: argparse.Namespace) -> dict:
    process.begin()
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        wanted = ["model=dnn", f"dataset={options.dataset}", CHOSEN, "callbacks=best_checkpoint"]
        # The first two epochs are not counted: the end of the second is where the clock starts.
        wanted += [f"trainer.max_epochs={2 * options.pairs + 2}", f"tracking.uri=sqlite:///{folder}/mlflow.db"]
        settings = read_training(resolve(compose_job("train", wanted).config))
        process.seed(settings.seed)
        plan = make_plan(settings, Path(folder))
        plan.trainer.callbacks.append(EveryOther())  # type: ignore[attr-defined]
        with open_run(plan.settings.tracking, {}) as run:
            fit(plan, [run.log_epoch, lambda epoch, metrics: ends.append(time.perf_counter())])
    seconds = [end - start for start, end in pairwise(ends[1:])]
    size = {"dataset": options.dataset, "threads": torch.get_num_threads()}
    return size | {"without": seconds[::2], "with": seconds[1::2]}


def told(found: dict) -> Iterator[str]:
    without, measured = found["without"], found["with"]
    size = f"{found['threads']} threads, n = {len(measured)}"
    yield f"What metrics add to an epoch of `dnn` on {found['dataset']}, {size}:"
    yield ""
    for name, of in (("median", statistics.median), ("minimum", min)):
        yield f"- {name}: `metrics=[]` {1000 * of(without):.1f} ms, `{CHOSEN}` {1000 * of(measured):.1f} ms"
    differences = [1000 * (after - before) for before, after in zip(without, measured, strict=True)]
    low, high = median_interval(differences)
    yield f"- difference: {statistics.median(differences):+.2f} ms an epoch, {low:+.2f} to {high:+.2f}"
