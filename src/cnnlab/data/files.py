"""The image files of one split: first told apart by their content, then read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cnnlab.data.survey import content_key
from cnnlab.decoding import Form, read_pixels
from cnnlab.errors import one_line

ClassFiles = dict[str, list[Path]]
Failures = list[tuple[Path, str]]  # files that cannot be read, with the reasons


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


def joined(parts: Sequence[Files]) -> Files:
    """Return the files of some splits as those of one."""
    paths, keys = (tuple(item for part in parts for item in getattr(part, name)) for name in ("paths", "keys"))
    return Files(paths, torch.cat([part.labels for part in parts]), keys)


def read_files(files: Files, form: Form) -> tuple[Tensor, Failures]:
    """Return the images, uint8 [N, C, H, W], in memory, and the files that cannot be read."""
    images = torch.empty(len(files.paths), form.channels, *form.size, dtype=torch.uint8)

    def decode(place: int) -> str | None:
        # A damaged file can raise almost anything in a decoder, and each is the file's fault.
        try:
            images[place] = torch.from_numpy(read_pixels(files.paths[place], form)).permute(2, 0, 1)
        except Exception as error:
            return one_line(error)
        return None

    # Pillow decodes and resizes outside the interpreter lock.
    with ThreadPoolExecutor() as pool:
        reasons = enumerate(pool.map(decode, range(len(files.paths))))
        return images, with_unnamed(files, {place: reason for place, reason in reasons if reason is not None})


def with_unnamed(files: Files, reasons: Mapping[int, str]) -> Failures:
    """Return the files that could not be decoded, by their places, and those that could not be opened before."""
    unnamed = {place: "it could not be read a moment ago" for place, key in enumerate(files.keys) if not key}
    return [(files.paths[place], reason) for place, reason in sorted((unnamed | dict(reasons)).items())]
