"""What the chosen metrics add to an epoch: `metrics=[balanced_acc,f1]` beside `metrics=[]`.

    CNNLAB_DATA=... python benchmarks/metrics_time.py [--dataset digits] [--epochs 8] [--rounds 6]

The same training of `dnn` with tracking and checkpoints on, one of `--epochs` each in turn, `--rounds` times, the first
epoch of each not counted. Printed: median and minimum of the processor's seconds from one epoch's end to the next, all
threads together: other work on the machine changes them less than it does the time that passes.
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

from cnnlab import process
from cnnlab.plan import Plan, read_training
from cnnlab.settings.read import resolve
from cnnlab.tracking.run import open_run
from cnnlab.training import fit

CHOSEN = ("metrics=[]", "metrics=[balanced_acc,f1]")


def epochs(plan: Plan) -> list[float]:
    """Train as train.py does, MLflow and checkpoints included; return the processor's seconds of each epoch."""
    ends: list[float] = []
    with open_run(plan.settings.tracking, {}) as run:
        fit(plan, [run.log_metrics, lambda epoch, metrics: ends.append(time.process_time())])
    return [end - start for start, end in pairwise(ends)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    process.begin()
    seconds: dict[str, list[float]] = {chosen: [] for chosen in CHOSEN}
    with tempfile.TemporaryDirectory() as folder, initialize_config_dir(str(CONF), version_base="1.3"):
        fixed = ["model=dnn", f"dataset={options.dataset}", f"trainer.max_epochs={options.epochs}"]
        fixed += ["callbacks=best_checkpoint", f"tracking.uri=sqlite:///{folder}/mlflow.db"]
        for turn in range(options.rounds):
            for place, chosen in enumerate(CHOSEN if turn % 2 else CHOSEN[::-1]):
                settings = read_training(resolve(compose("train", [*fixed, chosen])))
                seconds[chosen] += epochs(seeded_plan(settings, Path(folder, f"{turn}-{place}")))
    without, measured = (seconds[chosen] for chosen in CHOSEN)
    print(f"dnn on {options.dataset}, n = {len(measured)} epochs each, ", end="")
    print(f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}")
    for name, of in (("median", statistics.median), ("minimum", min)):
        before, after = 1000 * of(without), 1000 * of(measured)
        print(f"{name}: {CHOSEN[0]} {before:.1f} ms, {CHOSEN[1]} {after:.1f} ms: {after - before:+.1f} ms an epoch")


if __name__ == "__main__":
    main()
