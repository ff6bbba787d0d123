"""Keras on TensorFlow: `compile` and `fit` with their defaults over images in memory, as its tutorials have it."""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from benchmarks.gate import Gate, task


class WaitForTurn(keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate(keras=keras.__version__, tensorflow=tf.__version__)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.gate.begin()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        assert logs is not None
        self.gate.end(objective=logs["loss"], accuracy=logs["accuracy"])


def network(wanted: dict, sides: tuple[int, int]) -> keras.Model:
    penalty = keras.regularizers.L2(wanted["l2"]) if wanted["l2"] else None
    parts: list = [keras.Input((*sides, 1))]
    for filters in wanted["filters"]:
        shape = {"activation": "relu", "padding": wanted["padding"], "kernel_regularizer": penalty}
        start = wanted["conv_initializer"]
        parts.append(layers.Conv2D(filters, wanted["kernel_size"], kernel_initializer=start, **shape))
        parts.append(layers.MaxPooling2D(wanted["pool_size"]))
        parts += [layers.Dropout(wanted["conv_dropout"])] if wanted["conv_dropout"] else []
    parts.append(layers.Flatten())
    for units in wanted["hidden_units"]:
        start = wanted["dense_initializer"]
        parts.append(layers.Dense(units, activation="relu", kernel_regularizer=penalty, kernel_initializer=start))
        parts += [layers.Dropout(wanted["dense_dropout"])] if wanted["dense_dropout"] else []
    return keras.Sequential([*parts, layers.Dense(wanted["classes"], kernel_regularizer=penalty)])


def main() -> None:
    wanted = task()
    tf.config.threading.set_intra_op_parallelism_threads(wanted["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(wanted["threads"])
    keras.utils.set_random_seed(0)
    images = np.load(wanted["images"])[..., None].astype("float32") * np.float32(wanted["scale"])
    model = network(wanted, images.shape[1:3])
    optimizer = keras.optimizers.Adam(learning_rate=wanted["lr"], epsilon=wanted["eps"])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    labels = np.load(wanted["labels"])
    fitting = {"batch_size": wanted["batch_size"], "epochs": 1_000_000, "verbose": 0}
    model.fit(images, labels, callbacks=[WaitForTurn()], **fitting)


if __name__ == "__main__":
    main()
