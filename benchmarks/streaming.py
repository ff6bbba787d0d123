"""A training on more photos than memory may hold, beside the same training in memory.

    python -m benchmarks streaming [--images 100000] [--side 64] [--epochs 3] [--photos FOLDER]

Generates JPEGs in a temporary folder (or takes those in --photos, generating them where there are none), then trains
three times, each in a process of its own: in memory, beyond `dataset.memory_limit` (the photos are decoded into a file)
and beyond it again (the file is there). Told of each: seconds from the start of the process until the data is ready, of
the first epoch and the median of the later ones, and the most resident memory: the process' own, and beside it that of
files' pages, which the system takes back where memory is short. The trainings must have equal images and metrics.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from cnnlab.errors import UsageError

CLASSES = 10
STARTED = "STARTED"  # of the environment: when a training's process was started
LIMITS = {"in memory": 2**20, "decoded once": 0, "from the file": 0}  # MiB


def draw(order: tuple[Path, int, int, int]) -> None:
    """Write the images of one class and part: a bright disk on noise, as large as its class says."""
    import numpy as np
    from PIL import Image

    folder, label, first, side = order
    down, across = np.mgrid[:side, :side] / side - 0.5
    for number in range(first, first + 1000):
        generator = np.random.default_rng([label, number])
        row, column = generator.uniform(-0.2, 0.2, 2)
        disk = np.hypot(down - row, across - column) < 0.05 + 0.035 * label
        noise = generator.integers(0, 120, (side // 4, side // 4, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
        pixels = np.where(disk[..., None], generator.integers(100, 256, 3, dtype=np.uint8), noise)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / str(label) / f"{number:06}.jpg", quality=85)


def generate(folder: Path, images: int, side: int) -> None:
    for label in range(CLASSES):
        (folder / str(label)).mkdir(parents=True)
    orders = [(folder, label, first, side) for label in range(CLASSES) for first in range(0, images // CLASSES, 1000)]
    with ProcessPoolExecutor() as pool:
        list(pool.map(draw, orders))


@contextmanager
def watched() -> Iterator[dict[str, int]]:
    """Yield what will hold the most resident memory that this process has in the block, in MiB, by its kind."""
    most = {"RssAnon": 0, "RssFile": 0}
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.05):
            for line in Path("/proc/self/status").read_text().splitlines():
                name = line.partition(":")[0]
                if name in most:
                    most[name] = max(most[name], int(line.split()[1]) // 1024)

    watch = threading.Thread(target=look)
    watch.start()
    try:
        yield most
    finally:
        ended.set()
        watch.join()


def train(overrides: list[str], started: float) -> None:
    """Be one training; print what it took as JSON."""
    from cnnlab import process

    process.set_environment()
    from cnnlab.job import compose_job
    from cnnlab.plan import make_plan, read_training
    from cnnlab.settings.read import resolve
    from cnnlab.tracking.run import open_run
    from cnnlab.training import fit

    process.begin()
    settings = read_training(resolve(compose_job("train", overrides).config))
    process.seed(settings.seed)
    with watched() as most, tempfile.TemporaryDirectory() as folder:
        plan = make_plan(settings, Path(folder))
        digest = plan.data.training_digest
        epochs: list[dict[str, float]] = []
        fit_started = time.time()
        with open_run(settings.tracking, {}) as run:
            fit(plan, [run.log_metrics, lambda epoch, metrics: epochs.append({**metrics, "at": time.time()})])
        ends = [fit_started, *(epoch["at"] for epoch in epochs)]
    said = {
        "data": fit_started - started,
        "epochs": [end - begin for begin, end in pairwise(ends)],
        "memory": most,
        "metrics": [digest, *([epoch[name] for name in ("train/loss", "val/loss", "val/acc")] for epoch in epochs)],
    }
    print(json.dumps(said))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--filters", default="[4,8]", help="of simple_cnn")
    parser.add_argument("--photos", type=Path)


def measure(options: argparse.Namespace) -> dict:
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        photos = options.photos or Path(scratch, "photos")
        if not photos.exists():
            generate(photos, options.images, options.side)
        given = [
            *("model=simple_cnn", f"model.filters={options.filters}", "batch_size=128", "callbacks=best_checkpoint"),
            *("dataset=image_folder", f"dataset.path={photos}", f"dataset.root={scratch}"),
            *(f"trainer.max_epochs={options.epochs}", f"tracking.uri=sqlite:///{scratch}/mlflow.db"),
        ]
        for name, limit in LIMITS.items():
            overrides = json.dumps([*given, f"dataset.memory_limit={limit}"])
            command = [sys.executable, "-m", "benchmarks.streaming", overrides]
            environment = os.environ | {STARTED: str(time.time())}
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
            found.append({"name": name, **json.loads(done.stdout.splitlines()[-1])})
    if any(training["metrics"] != found[0]["metrics"] for training in found):
        raise UsageError(f"the trainings differ: {[training['metrics'] for training in found]}")
    size = {"images": options.images, "side": options.side, "filters": options.filters}
    return size | {"trainings": found}


def told(found: dict) -> Iterator[str]:
    size = f"{found['images']:,} JPEGs of {found['side']}x{found['side']}"
    yield f"Photos beyond the memory limit: {size}, `simple_cnn` with filters {found['filters']}, batches of 128"
    yield ""
    yield "| | data ready, s | first epoch, s | later epochs, s | own memory, MiB | pages of files, MiB |"
    yield "|---|---|---|---|---|---|"
    for training in found["trainings"]:
        first, *later = training["epochs"]
        memory = f"{training['memory']['RssAnon']:,} | {training['memory']['RssFile']:,}"
        later_median = f"{statistics.median(later):.1f}" if later else ""
        yield f"| {training['name']} | {training['data']:.1f} | {first:.1f} | {later_median} | {memory} |"


if __name__ == "__main__":
    train(json.loads(sys.argv[1]), float(os.environ[STARTED]))
