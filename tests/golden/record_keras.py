"""Records in keras_steps.json what Keras itself makes of five steps of each recipe's network.

Once, wherever Keras is: cnnlab does not need it. In an environment of its own:

    pip install keras==3.15.1 jax==0.10.2
    PYTHONPATH=tests KERAS_BACKEND=jax python tests/golden/record_keras.py
"""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
from keras import layers

from keras_recipes import CLASSES, RECIPES, SIDE, Recipe, batches, weights


def network(recipe: Recipe) -> keras.Model:
    penalty = keras.regularizers.L2(recipe.l2) if recipe.l2 else None
    parts: list[keras.layers.Layer] = [keras.Input((SIDE, SIDE, 1)), layers.Rescaling(recipe.scale)]
    for filters, pools in zip(recipe.filters, recipe.pools, strict=True):
        convolution = {"activation": "relu", "padding": recipe.padding, "kernel_regularizer": penalty}
        parts.append(layers.Conv2D(filters, recipe.kernel, **convolution))
        parts += [layers.MaxPooling2D(2)] if pools else []
    parts.append(layers.Flatten())
    parts += [layers.Dense(units, activation="relu", kernel_regularizer=penalty) for units in recipe.hidden]
    return keras.Sequential([*parts, layers.Dense(CLASSES, kernel_regularizer=penalty)])


def set_weights(model: keras.Model) -> None:
    """Give the model the common weights, turned from torch's layout into Keras'."""
    flattened = model.layers[[layer.__class__.__name__ for layer in model.layers].index("Flatten")].input.shape[1:]
    variables = model.trainable_variables
    shapes, first_dense = [], True
    for variable in variables:
        shape = tuple(variable.shape)
        shapes.append((shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1])
    for variable, values in zip(variables, weights(shapes), strict=True):
        if values.ndim == 4:
            values = values.transpose(2, 3, 1, 0)
        elif values.ndim == 2 and first_dense:
            height, width, channels = flattened
            values = values.reshape(-1, channels, height, width).transpose(2, 3, 1, 0).reshape(-1, len(values))
            first_dense = False
        elif values.ndim == 2:
            values = values.T
        variable.assign(values)


def losses(recipe: Recipe) -> list[float]:
    """Return the objective of each batch before the step that it is followed by."""
    model = network(recipe)
    set_weights(model)
    made = {"adam": keras.optimizers.Adam, "rmsprop": keras.optimizers.RMSprop}[recipe.optimizer]()
    model.compile(made, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    found = []
    for images, labels in batches(recipe.batch):
        model.reset_metrics()  # or it would be the mean of all batches so far
        found.append(float(np.asarray(model.train_on_batch(images.transpose(0, 2, 3, 1).astype("float32"), labels))))
    return found


if __name__ == "__main__":
    recorded = {name: losses(recipe) for name, recipe in RECIPES.items()}
    origin = f"keras {keras.__version__} on {keras.backend.backend()}, tests/golden/record_keras.py"
    file = Path(__file__).with_name("keras_steps.json")
    file.write_text(json.dumps({"taken_from": origin, "objectives": recorded}, indent=1) + "\n")
