"""Is a whole mnist_speedrun trained before Keras has finished the first epoch of mnist_convnet?

    python -m venv keras && keras/bin/pip install tensorflow-cpu
    CNNLAB_DATA=/path/to/datasets python benchmarks/speedrun.py --keras keras/bin/python [--rounds 3]

Takes turns: one speedrun (its training seconds, validation and tracking included, start-up not), then one Keras epoch
on the same cores (the time of `fit` alone: RMSprop, batches of 64, 60,000 images as float32 in memory).
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
from pathlib import Path

import numpy
from hydra import compose, initialize_config_dir

from cnnlab.data import load
from cnnlab.plan import read_training
from cnnlab.settings.read import resolve

ROOT = Path(__file__).resolve().parents[1]
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
print(time.perf_counter() - started, keras.__version__)
"""


def save_images(path: Path) -> None:
    """Write MNIST's training images as a file that needs only numpy."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        data = load(read_training(resolve(compose("train", ["dataset=mnist"]))).dataset)
    numpy.savez(path, images=data.train_images[:, 0].numpy(), labels=data.train_labels.numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keras", required=True, help="a Python that has Keras and a backend")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("outputs/speedrun"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    pixels = (options.folder / "mnist.npz").absolute()
    save_images(pixels)
    speedrun, keras = [], []
    for seed in range(options.rounds):
        command = [sys.executable, str(ROOT / "train.py"), "experiment=mnist_speedrun", f"seed={seed}"]
        output = subprocess.run(command, cwd=options.folder, check=True, capture_output=True, text=True).stdout
        found = re.search(r"of which training ([\d.]+) s", output)
        assert found, output
        speedrun.append(float(found[1]))
        command = [options.keras, "-c", KERAS, str(pixels)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        seconds, version = output.split()[-2:]
        keras.append(float(seconds))
        print(f"speedrun {speedrun[-1]:.1f} s, one epoch of mnist_convnet in Keras {version} {keras[-1]:.1f} s")
    ratio = statistics.median(speedrun) / statistics.median(keras)
    print(f"medians: {statistics.median(speedrun):.1f} s and {statistics.median(keras):.1f} s, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
