"""The image files of one split: first told apart by their content, then read."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cnnlab.data.pixels import read_image
from cnnlab.data.survey import content_key
from cnnlab.errors import one_line
from cnnlab.settings.dataset import ImageFolder

ClassFiles = dict[str, list[Path]]


@dataclass(frozen=True, eq=False)
class Files:
    """Files in their order, with labels int64 [N], and keys of their content; '' of a file that cannot be opened."""

    paths: tuple[Path, ...]
    labels: Tensor
    keys: tuple[str, ...]

    def take(self, index: Tensor) -> Files:
        """Return the files at these places."""
        places = index.tolist()
        paths, keys = (tuple(items[place] for place in places) for items in (self.paths, self.keys))
        return Files(paths, self.labels[index], keys)


def told_apart(classes: ClassFiles) -> Files:
    """Return the files of all classes, one class after the other, labelled by their class' position."""
    paths = tuple(path for files in classes.values() for path in files)
    labels = [label for label, files in enumerate(classes.values()) for _ in files]

    def key(path: Path) -> str:
        try:
            return content_key(path)
        except OSError:  # told with all unreadable files when they are read
            return ""

    with ThreadPoolExecutor() as pool:
        return Files(paths, torch.tensor(labels, dtype=torch.int64), tuple(pool.map(key, paths)))


def read_files(
    files: Files, channels: int, size: tuple[int, int], dataset: ImageFolder
) -> tuple[Tensor, list[tuple[Path, str]]]:
    """Return the images, uint8 [N, channels, height, width], and the files that cannot be read with their reasons."""
    images = torch.empty(len(files.paths), channels, *size, dtype=torch.uint8)

    def decode(position: int) -> str | None:
        # A damaged file can raise almost anything in a decoder, and each is the file's fault.
        try:
            path, limit = files.paths[position], dataset.max_pixels
            images[position] = read_image(path, channels, size, dataset.resize, max_pixels=limit)
        except Exception as error:
            return one_line(error)
        return None if files.keys[position] else "it could not be read a moment ago"

    # Pillow decodes and resizes outside the interpreter lock.
    with ThreadPoolExecutor() as pool:
        reasons = list(pool.map(decode, range(len(files.paths))))
    return images, [(files.paths[place], reason) for place, reason in enumerate(reasons) if reason is not None]
