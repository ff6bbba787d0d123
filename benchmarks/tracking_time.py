"""What tracking costs an epoch: a training whose epochs go to MLflow, and do not, by turns.

    python -m benchmarks tracking_time [--model dnn] [--dataset mnist] [--turns 5] [--epochs 4]

One training, checkpoints on and system metrics off, in blocks of some epochs that are written to a SQLite store and of
as many that are not. Told: the median seconds of an epoch with and without, the median difference of neighbouring
blocks with its 95 % interval, and the processor time of the thread that writes, as a share of the epochs' time: what it
takes from a training whose own thread never rests.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import torch

from benchmarks.quartiles import median_interval
from cnnlab import process
from cnnlab.job import compose_job
from cnnlab.plan import make_plan, read_training
from cnnlab.settings.read import resolve
from cnnlab.tracking.run import open_run
from cnnlab.training import fit


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="dnn")
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--turns", type=int, default=5, help="blocks with and blocks without")
    parser.add_argument("--epochs", type=int, default=4, help="of a block")


def measure(options: argparse.Namespace) -> dict:
    process.begin()
    blocks: list[float] = []  # when each began: an even one is written, an odd one is not
    first = 3  # epochs before the first block
    with tempfile.TemporaryDirectory() as folder:
        epochs = first + 2 * options.turns * options.epochs
        wanted = [f"model={options.model}", f"dataset={options.dataset}", "callbacks=last_checkpoint"]
        wanted += [f"trainer.max_epochs={epochs}", f"tracking.uri=sqlite:///{folder}/mlflow.db"]
        settings = read_training(resolve(compose_job("train", [*wanted, "tracking.system_metrics=false"]).config))
        process.seed(settings.seed)
        plan = make_plan(settings, Path(folder))
        with open_run(plan.settings.tracking, {}) as run:
            assert run.writer is not None
            before = 0.0

            def log(epoch: int, metrics: Mapping[str, float]) -> None:
                nonlocal before
                block, place = divmod(epoch - first, options.epochs)
                if epoch >= first and place == 0:
                    run.flush()
                    before = before if blocks else run.writer.seconds
                    blocks.append(time.perf_counter())
                if epoch < first or block % 2 == 0:
                    run.log_epoch(epoch, metrics)

            fit(plan, [log])
            writing = run.writer.seconds - before
    seconds = [(end - start) / options.epochs for start, end in pairwise(blocks)]
    sizes = {"model": options.model, "dataset": options.dataset, "epochs": options.epochs}
    sizes |= {"threads": torch.get_num_threads(), "writing": writing / (options.turns * options.epochs)}
    return sizes | {"with": seconds[::2], "without": seconds[1::2]}


def told(found: dict) -> Iterator[str]:
    measured, without = (statistics.median(found[name]) for name in ("with", "without"))
    differences = [1000 * (one - other) for one, other in zip(found["with"], found["without"], strict=True)]
    low, high = median_interval(differences)
    size = f"{found['threads']} threads, by turns, {len(differences)} blocks of {found['epochs']} epochs each"
    yield f"What tracking costs an epoch of `{found['model']}` on {found['dataset']}, {size}:"
    yield ""
    yield f"- median of an epoch: {1000 * measured:.0f} ms, without tracking {1000 * without:.0f} ms"
    yield f"- difference: {statistics.median(differences):+.1f} ms, {low:+.1f} to {high:+.1f}"
    yield (
        f"- processor time of the thread that writes: {1000 * found['writing']:.2f} ms an epoch, "
        f"{found['writing'] / without:.2%} of it"
    )


summary = told
