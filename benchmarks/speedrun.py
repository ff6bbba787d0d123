"""Is a whole mnist_speedrun trained before Keras has finished the first epoch of mnist_convnet?

    CNNLAB_DATA=/path/to/datasets python -m benchmarks speedrun [--rounds 3]

Takes turns: one speedrun (its training seconds, validation and tracking included, start-up not), then one Keras epoch
on the same cores (the time of `fit` alone: RMSprop, batches of 64, 60,000 images as float32 in memory).
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy

from benchmarks.contestants.keras_environment import CannotBeHad, keras_python
from benchmarks.machine import ROOT
from cnnlab.data import load
from cnnlab.job import compose_job
from cnnlab.plan import read_training
from cnnlab.settings.read import resolve

KERAS = """
import sys, time
import keras, numpy
from keras import layers
images = numpy.load(sys.argv[1])
network = keras.Sequential([
    keras.Input((28, 28, 1)),
    layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(2),
    layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(2),
    layers.Conv2D(64, 3, activation="relu"), layers.Flatten(),
    layers.Dense(64, activation="relu"), layers.Dense(10, activation="softmax"),
])
network.compile("rmsprop", "sparse_categorical_crossentropy", metrics=["accuracy"])
pixels = images["images"].astype("float32")[..., None] / 255
started = time.perf_counter()
network.fit(pixels, images["labels"], epochs=1, batch_size=64, verbose=0)
print(time.perf_counter() - started)
"""


def save_images(path: Path) -> None:
    """Write MNIST's training images as a file that needs only numpy."""
    data = load(read_training(resolve(compose_job("train", ["dataset=mnist"]).config)).dataset)
    numpy.savez(path, images=data.train_images[:, 0].numpy(), labels=data.train_labels.numpy())


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=3)


def measure(options: argparse.Namespace) -> dict:
    try:
        python = keras_python()
    except CannotBeHad as error:
        return {"left_out": str(error)}
    found: dict[str, list[float]] = {"speedrun": [], "keras": []}
    with tempfile.TemporaryDirectory() as folder:
        pixels = Path(folder, "mnist.npz")
        save_images(pixels)
        for seed in range(options.rounds):
            command = [sys.executable, str(ROOT / "train.py"), "experiment=mnist_speedrun", f"seed={seed}"]
            output = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
            told = re.search(r"of which training ([\d.]+) s", output)
            assert told, output
            found["speedrun"].append(float(told[1]))
            command = [python, "-c", KERAS, str(pixels)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found["keras"].append(float(output.split()[-1]))
    return found


def told(found: dict) -> Iterator[str]:
    if "left_out" in found:
        yield f"A speedrun beside an epoch in Keras: left out, {found['left_out']}."
        return
    speedrun, keras = (statistics.median(found[name]) for name in ("speedrun", "keras"))
    yield (
        f"`experiment=mnist_speedrun` trains for {speedrun:.1f} s, validation and tracking included; one epoch of "
        f"`mnist_convnet` in Keras takes {keras:.1f} s (ratio {speedrun / keras:.2f}, by turns, medians, "
        f"n = {len(found['keras'])})."
    )


summary = told
