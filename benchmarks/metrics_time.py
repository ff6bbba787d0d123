"""What the chosen metrics add to an epoch: `metrics=[balanced_acc,f1]` beside `metrics=[]`.

    CNNLAB_DATA=... python benchmarks/metrics_time.py [--dataset digits] [--pairs 100]

One training of `dnn`, tracking and checkpoints on, that measures them in every other epoch: what else the machine does
then disturbs neighbours alike. Printed: median and minimum of an epoch's seconds with and without, and the median
difference of neighbours with its 95 % interval (of the median, by order statistics).
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from epoch_time import CONF, seeded_plan  # first: it prepares the process before torch is loaded

# isort: split
import torch
from hydra import compose, initialize_config_dir
from pytorch_lightning import Callback, Trainer
from scipy import stats

from cnnlab import process
from cnnlab.classifier import Classifier
from cnnlab.plan import read_training
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--pairs", type=int, default=100)
    options = parser.parse_args()
    process.begin()
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as folder, initialize_config_dir(str(CONF), version_base="1.3"):
        wanted = ["model=dnn", f"dataset={options.dataset}", CHOSEN, "callbacks=best_checkpoint"]
        # The first two epochs are not counted: the end of the second is where the clock starts.
        wanted += [f"trainer.max_epochs={2 * options.pairs + 2}", f"tracking.uri=sqlite:///{folder}/mlflow.db"]
        plan = seeded_plan(read_training(resolve(compose("train", wanted))), Path(folder))
        plan.trainer.callbacks.append(EveryOther())  # type: ignore[attr-defined]
        with open_run(plan.settings.tracking, {}) as run:
            fit(plan, [run.log_metrics, lambda epoch, metrics: ends.append(time.perf_counter())])
    seconds = [1000 * (end - start) for start, end in pairwise(ends[1:])]
    without, measured = seconds[::2], seconds[1::2]
    print(f"dnn on {options.dataset}, n = {len(measured)} epochs each, ", end="")
    print(f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}")
    for name, of in (("median", statistics.median), ("minimum", min)):
        print(f"{name}: metrics=[] {of(without):.1f} ms, {CHOSEN} {of(measured):.1f} ms")
    differences = sorted(after - before for before, after in zip(without, measured, strict=True))
    place = int(stats.binom.ppf(0.025, len(differences), 0.5))
    low, high = differences[place], differences[-1 - place]
    print(f"difference: {statistics.median(differences):+.2f} ms an epoch, {low:+.2f} to {high:+.2f}")


if __name__ == "__main__":
    main()
