"""What a network says of every image of a split, kept in a file: two runs can then be compared without a training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnlab.classifier import Classifier
from cnnlab.data.batches import Batches
from cnnlab.data.rows import Images
from cnnlab.errors import UsageError, one_line
from cnnlab.metrics import Predictions


@dataclass(frozen=True, eq=False)
class Kept:
    """Of N images: their places int64 [N] in the file order of the dataset's part, labels int64 [N] and logits
    float32 [N, classes]."""

    index: NDArray[np.int64]
    label: NDArray[np.int64]
    logits: NDArray[np.float32]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which images are classified right, [N]."""
        return self.logits.argmax(axis=1) == self.label

    @property
    def losses(self) -> NDArray[np.float64]:
        """The cross-entropy of each image in nats, [N]."""
        shifted = self.logits.astype(np.float64) - self.logits.max(axis=1, keepdims=True)
        return np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(self.label)), self.label]


def joined(parts: Sequence[Kept]) -> Kept:
    """Return the predictions of parts of a split as those of one."""
    return Kept(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("index", "label", "logits")))


def keep(path: Path, index: Tensor, predictions: Predictions) -> Path:
    """Write predictions; `index` [N] are the images' places in the file order of the training or test images."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path,
        index=index.numpy().astype(np.int32),
        label=predictions.labels.numpy().astype(np.int32),
        logits=predictions.logits.float().numpy(),
    )
    return path


def read(path: Path, named: str) -> Kept:
    """Return what `keep` wrote; raises UsageError, calling the file `named`, for any other file."""
    try:
        with np.load(path, allow_pickle=False) as content:
            index, label, logits = (content[name] for name in ("index", "label", "logits"))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise UsageError(f"{named} cannot be read: {one_line(error)}") from error
    if logits.ndim != 2 or not len(index) == len(label) == len(logits) > 0:
        raise UsageError(f"{named} does not hold the predictions of a split")
    return Kept(index.astype(np.int64), label.astype(np.int64), logits.astype(np.float32))


def predict(classifier: Classifier, images: Images, labels: Tensor, batch_size: int) -> Predictions:
    """Return the predictions of a classifier, in float32, of images uint8 [N, C, H, W] with labels int64 [N]."""
    return Predictions(answers(classifier, images, batch_size, classifier).float(), labels.cpu())


@torch.inference_mode()
def answers(classifier: Classifier, images: Images, batch_size: int, answer: Callable[[Tensor], Tensor]) -> Tensor:
    """Return what `answer` says of images, uint8 [N, C, H, W]: a row an image, in their order, on the CPU.

    `answer` asks the classifier about one batch [B, C, H, W] after the other, the batches of a run's own test. In
    evaluation mode, on the GPU if there is one; the classifier is back on the CPU afterwards.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    classifier.to(device).eval()
    batches = Batches(images, torch.arange(len(images)), batch_size, shuffle=False, seed=0)
    said = torch.cat([answer(batch.to(device)).cpu() for batch, _ in batches])
    classifier.cpu()
    return said
