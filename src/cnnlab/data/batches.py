"""Batches gathered by index from images held in memory, or mapped into it from a file."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from cnnlab.data.rows import Images, Rows
from cnnlab.errors import UsageError

# Eight pixels move as one number. That keeps a batch of 28x28 images under the 32,768 elements from which PyTorch's
# gather starts its thread pool, whose barrier costs milliseconds, not microseconds, when another process has the core.
PACKED = torch.int64


class Batches:
    """Iterates over one split as (uint8 images [B, C, H, W], int64 labels [B]), on the device the split lies on.

    Shuffled, for training: every epoch has its own permutation, which depends on `seed` and the epoch alone, so a
    resumed run continues the order of an uninterrupted one. `batch_size` is that of all `world_size` ranks together:
    of each batch a rank takes every world_size-th image, so that a step of several ranks sees what a step of one does.
    Shares may differ by an image, and `weight` makes up for it; of a last batch with fewer images than ranks some take
    none, since all have to take the same number of steps.

    Balanced, it is no permutation: as many images are drawn with replacement, every class being as likely.

    In order, for evaluation: the ranks share out the images without padding, so that metrics are exact; `batch_size`
    is that of one rank, since it changes no metric. All of them still get the same number of batches, at least one
    image each and their sizes at most one apart, because ranks that synchronise in every forward pass would otherwise
    wait for each other for ever.

    Each batch is one `index_select` over flat rows (or, in order, a view): of the ways tried on the CPU the fastest
    that needs no second copy of the split. Images come out in channels_last memory format. Of `Rows` nothing is held:
    each batch is gathered from what they name.
    """

    batch_sampler = None  # Lightning asks for it wherever there is a `sampler`

    def __init__(
        self,
        images: Images,
        labels: Tensor,
        batch_size: int,
        shuffle: bool,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        *,
        balanced: bool = False,
    ):
        if shuffle and batch_size < world_size:
            raise UsageError(
                f"batch_size={batch_size} cannot be shared among {world_size} devices; allowed: {world_size} or more"
            )
        if not shuffle and len(labels) < _ceil(len(labels), batch_size * world_size) * world_size:
            raise UsageError(
                f"evaluation_batch_size={batch_size} cannot share {len(labels)} images among {world_size} devices"
            )
        self.rows = images if isinstance(images, Rows) else None
        self.images = images.images if isinstance(images, Rows) else _channels_last(images)
        self.labels = labels
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.balanced = balanced
        self.epoch = 0

    @property
    def sampler(self) -> Batches:
        """Itself: Lightning announces each epoch by calling `set_epoch` on a loader's `sampler`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Make the next iteration that of `epoch`, counted from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        """The number of batches of one epoch, the same on every rank."""
        ranks = 1 if self.shuffle else self.world_size
        return _ceil(len(self.labels), self.batch_size * ranks)

    def weight(self, batch_index: int) -> float:
        """Return what this rank's mean over its share of a training batch counts in the mean of all ranks' means.

        That is then the mean over the batch, and the gradient, which the ranks average, is that of one process.
        """
        size = min(self.batch_size, len(self.labels) - batch_index * self.batch_size)
        return len(range(self.rank, size, self.world_size)) * self.world_size / size

    # A generator, so that the order is drawn when the epoch begins: Lightning calls iter() before set_epoch().
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self._shuffled() if self.shuffle else self._in_order()

    def order(self) -> Tensor:
        """Return the epoch's permutation, of all ranks together, int64, on the CPU."""
        # Hashing both numbers keeps epoch 1 of seed 0 apart from epoch 0 of seed 1.
        state = int(np.random.SeedSequence([self.seed, self.epoch]).generate_state(1, np.uint64)[0] >> np.uint64(1))
        generator = torch.Generator().manual_seed(state)
        if self.balanced:
            labels = self.labels.cpu()
            chance = 1 / torch.bincount(labels).double()[labels]
            return torch.multinomial(chance, len(labels), replacement=True, generator=generator)
        return torch.randperm(len(self.labels), generator=generator)

    def _shuffled(self) -> Iterator[tuple[Tensor, Tensor]]:
        _, channels, height, width = self.images.shape
        rows = self.images.permute(0, 2, 3, 1).reshape(len(self.images), -1)
        if rows.shape[1] % PACKED.itemsize == 0:
            rows = rows.view(PACKED)
        for batch in self.order().to(self.images.device).split(self.batch_size):
            index = batch[self.rank :: self.world_size]
            places = index if self.rows is None else self.rows.index[index]
            pixels = rows.index_select(0, places).view(torch.uint8).view(-1, height, width, channels)
            yield pixels.permute(0, 3, 1, 2), self.labels.index_select(0, index)

    def _in_order(self) -> Iterator[tuple[Tensor, Tensor]]:
        total, parts = len(self.labels), len(self) * self.world_size
        for part in range(self.rank * len(self), (self.rank + 1) * len(self)):
            start, stop = part * total // parts, (part + 1) * total // parts
            images = self.images[start:stop] if self.rows is None else _channels_last(self.rows[start:stop])
            yield images, self.labels[start:stop]


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def _ceil(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)
