"""A trained classifier as a program uses it: pixels in, probabilities out."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnlab.classifier import Classifier
from cnnlab.errors import UsageError
from cnnlab.portable import Portable

Pixels = Tensor | NDArray[np.uint8] | NDArray[np.float32] | NDArray[np.float64]


class Model:
    """A trained classifier: pixels in, probabilities out.

    `class_names` are in the order of the probabilities, `input_shape` is (C, H, W), `module` the torch module with
    scaling and softmax in it, `run_id` None for a checkpoint that came as a file.
    """

    def __init__(
        self,
        classifier: Classifier,
        class_names: tuple[str, ...],
        input_shape: tuple[int, int, int],
        checkpoint: Path,
        run_id: str | None,
    ):
        self.module = Portable(classifier.scaling, classifier.network).cpu()
        self.class_names = class_names
        self.input_shape = input_shape
        self.checkpoint = checkpoint
        self.run_id = run_id

    def __call__(self, images: Pixels) -> Tensor:
        """Return probabilities float32 [N, classes] of pixels 0..255, uint8 or float [N, C, H, W] or one [C, H, W].

        Raises UsageError for images of another shape.
        """
        pixels = torch.as_tensor(images)
        if pixels.shape == self.input_shape:
            pixels = pixels[None]
        if pixels.shape[1:] != self.input_shape:
            wanted = ", ".join(map(str, self.input_shape))
            raise UsageError(f"images of shape {list(pixels.shape)}; this model takes pixels 0..255 [N, {wanted}]")
        if pixels.is_floating_point() and 0 < float(pixels.max()) <= 1:
            warnings.warn("all pixels are at most 1; this model takes 0..255 and scales them itself", stacklevel=2)
        with torch.inference_mode():
            return torch.cat([self.module(part) for part in pixels.float().split(1000)])

    def classify(self, images: Pixels) -> list[str]:
        """Return the name of the most probable class of each image; takes what calling the model takes."""
        return [self.class_names[index] for index in self(images).argmax(dim=1)]

    def __repr__(self) -> str:
        where = f"run {self.run_id}" if self.run_id else str(self.checkpoint)
        return f"<cnnlab model of {where}: {list(self.input_shape)} to {len(self.class_names)} classes>"
