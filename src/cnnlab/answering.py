"""What answers for a model in MLflow. Kept with every model as a file of its own, so it imports nothing of cnnlab."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext
from numpy.typing import NDArray

refusal = MlflowException.invalid_parameter_value  # a server answers it with its words, and status 400
NETWORK = "network"  # the artifact: a folder with the two files below
PROGRAM = "model.pt2"
FACTS = "cnnlab.json"  # inside the program's archive


class Answers(PythonModel):
    """Pixels 0..255 [N, C, H, W] to probabilities float32 [N, classes], or with `labels` to names and probabilities."""

    def load_context(self, context: PythonModelContext) -> None:
        said = {FACTS: ""}
        file = Path(context.artifacts[NETWORK]) / PROGRAM
        self.network = torch.export.load(str(file), extra_files=said).module()
        facts = json.loads(said[FACTS])
        self.class_names: list[str] = facts["class_names"]
        self.input_shape: list[int] = facts["input_shape"]

    def predict(  # type: ignore[explicit-any] # MLflow warns of any other hint than the bare np.ndarray
        self,
        context: PythonModelContext,
        model_input: np.ndarray,
        params: Mapping[str, object] | None = None,
    ) -> NDArray[np.float32] | pd.DataFrame:
        """Return float32 [N, classes], or with `labels` a table of class, probability and all probabilities by name.

        `model_input` is an array [N, C, H, W] of numbers 0..255 of any type. Raises MlflowException for any other.
        """
        with torch.inference_mode():
            answers = self.network(torch.from_numpy(self.pixels(model_input))).numpy()
        if not (params or {}).get("labels"):
            return answers
        best = answers.argmax(axis=1)
        return pd.DataFrame(
            {
                "class": [self.class_names[index] for index in best],
                "probability": [float(row[index]) for row, index in zip(answers, best, strict=True)],
                "probabilities": [dict(zip(self.class_names, row.tolist(), strict=True)) for row in answers],
            }
        )

    def pixels(self, given: object) -> NDArray[np.float32]:
        """Return the images as float32; raises MlflowException for anything but numbers 0..255 [N, C, H, W]."""
        images = np.asarray(given)
        wanted = f"pixels from 0 to 255, [N, {', '.join(map(str, self.input_shape))}]"
        if images.dtype.kind not in "uif" or list(images.shape[1:]) != self.input_shape:
            raise refusal(f"this model takes {wanted}; given are {images.dtype} {list(images.shape)}")
        if images.size and not (images.min() >= 0 and images.max() <= 255):
            raise refusal(f"this model takes {wanted}; given are values {images.min()} to {images.max()}")
        return np.ascontiguousarray(images, dtype=np.float32)


set_model(Answers())
