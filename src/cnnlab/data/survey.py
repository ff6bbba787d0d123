"""What a collection of photos looks like: colour or grey, how large, and which images it holds twice."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import ImageOps

from cnnlab.decoding import header_of
from cnnlab.settings.dataset import ImageFolder

LARGEST_SIDE = 64  # pixels that `auto` goes to; the networks here are made for small images
LOOKED_AT = 50  # files, spread evenly, that tell colour and size
COLOURFUL = 16  # levels between two channels of one pixel: beyond what JPEG does to grey


def form_of(dataset: ImageFolder, files: Sequence[Path]) -> tuple[int, tuple[int, int]]:
    """Return the channels and (height, width) that the files are read with: as given, or where `auto`, as they are.

    `auto` is colour where any of up to 50 files is colourful, and a square of their shorter sides' median, at most 64.
    """
    if dataset.channels != "auto" and dataset.image_size != "auto":
        return dataset.channels, _sides(dataset.image_size)
    seen = [look for path in files[:: max(1, len(files) // LOOKED_AT)] if (look := _look(path, dataset.max_pixels))]
    side = min(LARGEST_SIDE, round(statistics.median(side for side, _ in seen))) if seen else LARGEST_SIDE
    colourful = any(colourful for _, colourful in seen)
    channels = (3 if colourful else 1) if dataset.channels == "auto" else dataset.channels
    return channels, (side, side) if dataset.image_size == "auto" else _sides(dataset.image_size)


def describe_form(dataset: ImageFolder, channels: int, size: tuple[int, int]) -> str:
    """Return in words how the files are read."""
    chosen = [key for key in ("channels", "image_size") if getattr(dataset, key) == "auto"]
    by = f", chosen by dataset.{' and dataset.'.join(chosen)}=auto" if chosen else ""
    return f"images: {'colour' if channels == 3 else 'grey'}, {size[0]}x{size[1]} ({dataset.resize}){by}"


def content_key(path: Path) -> str:
    """Return 16 hexadecimal digits of a file's content: an image's name wherever it lies and whatever it is called."""
    return hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()


def describe_copies(places: Mapping[str, Sequence[str]], what: str) -> list[str]:
    """Return a line about the images that lie in several places (splits or classes), or nothing; by content key."""
    copied = [names for names in places.values() if len(names) > 1]
    if not copied:
        return []
    first = " = ".join(copied[0][:2])
    return [f"warning: {len(copied)} image{'s'[: len(copied) > 1]} in more than one {what}: {first}"]


def _sides(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _look(path: Path, max_pixels: int) -> tuple[int, bool] | None:
    """Return the shorter side and whether the pixels have colour; None for a file that cannot be read."""
    try:
        with header_of(path, max_pixels) as file:
            side = min(file.size)
            if file.mode in ("1", "L", "LA", "I", "F") or file.mode.startswith("I;"):
                return side, False
            file.draft("RGB", (LARGEST_SIDE, LARGEST_SIDE))
            small = ImageOps.contain(file.convert("RGB"), (LARGEST_SIDE, LARGEST_SIDE))
    except Exception:  # told with all unreadable files when they are read
        return None
    pixels = np.asarray(small).astype(int)
    return side, bool((pixels.max(2) - pixels.min(2)).max() > COLOURFUL)
