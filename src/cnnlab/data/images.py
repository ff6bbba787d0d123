"""The images of one dataset, held in memory or on files that are mapped into it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from cnnlab.data.rows import Images, chunks


@dataclass(frozen=True, eq=False)
class ImageData:
    """A labelled image dataset with its own test split.

    Images are uint8 [N, C, H, W] with values 0..255, labels int64 [N] with values 0..classes-1. The training images
    are in file order and not yet divided into training and validation; the last `own_validation` of them are the
    validation split where the dataset brings its own. `source` says where they came from, `layout`, where there was a
    choice, how they were divided and read. `train_keys` and `test_keys` name each image by its content, where images
    may come and go. Where it is `sealed`, the test split was not read and is empty, whatever
    its keys. `mapped`: the images are more than memory may hold, and are read from files where they are asked for.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    class_names: tuple[str, ...]
    source: str
    own_validation: int = 0
    layout: str = ""
    train_keys: tuple[str, ...] = ()
    test_keys: tuple[str, ...] = ()
    sealed: bool = False
    mapped: bool = False

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        channels, height, width = self.train_images.shape[1:]
        return channels, height, width

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits that change with any pixel, label or shape of either split."""
        return digest(self.train_images, self.train_labels, self.test_images, self.test_labels)

    @cached_property
    def training_digest(self) -> str:
        """The same of the training images alone, with validation: known also where the test split is not read."""
        return digest(self.train_images, self.train_labels)

    @cached_property
    def test_digest(self) -> str:
        """The same of the test split alone."""
        return digest(self.test_images, self.test_labels)


def digest(*tensors: Images) -> str:
    """Return 16 hexadecimal digits that change with any value or shape of the tensors."""
    content = hashlib.blake2b(digest_size=8)
    for tensor in tensors:
        content.update(repr(tuple(tensor.shape)).encode())
        for chunk in chunks(tensor):
            content.update(chunk.contiguous().numpy().data)
    return content.hexdigest()
