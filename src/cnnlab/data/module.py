"""The splits of one dataset as Lightning's data module."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import Tensor

from cnnlab.data.batches import Batches
from cnnlab.data.images import ImageData
from cnnlab.data.rows import Images, Rows
from cnnlab.errors import UsageError, collect


class ImageDataModule(pl.LightningDataModule):
    """Serves the training, validation and test split from the trainer's own device, where each is moved once.

    Of images that are more than memory may hold, batches are read from their file, and moved one by one.
    `batch_size` is the number of images per training step, of all devices together; `seed` fixes the order of every
    epoch. With `balanced`, an epoch draws as often from each class.
    Raises UsageError for a batch larger than the training split.
    """

    def __init__(
        self,
        data: ImageData,
        train_index: Tensor,
        validation_index: Tensor,
        batch_size: int,
        evaluation_batch_size: int,
        seed: int,
        *,
        balanced: bool = False,
    ):
        super().__init__()
        if batch_size > len(train_index):
            raise UsageError(
                f"batch_size={batch_size} is larger than the training split; allowed: 1 to {len(train_index)}"
            )
        self.data = data
        self.train_index = train_index
        self.validation_index = validation_index
        self.batch_size = batch_size
        self.evaluation_batch_size = evaluation_batch_size
        self.seed = seed
        self.balanced = balanced
        self._on_device: dict[tuple[str, torch.device], tuple[Images, Tensor]] = {}

    @property
    def sizes(self) -> dict[str, int]:
        """The number of images in each split; of a sealed test split nobody knows."""
        sizes = {"train": len(self.train_index), "validation": len(self.validation_index)}
        return sizes if self.data.sealed else sizes | {"test": len(self.data.test_labels)}

    def check_shares(self, devices: int) -> None:
        """Raise UsageError for every split that some devices cannot share out."""
        problems: list[str] = []
        for split, size in self.sizes.items():
            images, shuffle = torch.empty(size, 0, 0, 0), split == "train"
            batch_size = self.batch_size if shuffle else self.evaluation_batch_size
            collect(problems, Batches, images, torch.empty(size), batch_size, shuffle, self.seed, world_size=devices)
        if problems:
            raise UsageError(*problems)

    def train_dataloader(self) -> Batches:
        return self._batches("train", self.batch_size, shuffle=True)

    def val_dataloader(self) -> Batches | list[Batches]:
        """The validation split in order; nothing, so that Lightning skips validation, when there is none."""
        if len(self.validation_index) == 0:
            return []
        return self._batches("validation", self.evaluation_batch_size, shuffle=False)

    def test_dataloader(self) -> Batches:
        return self._batches("test", self.evaluation_batch_size, shuffle=False)

    def transfer_batch_to_device(self, batch: list[Tensor], device: torch.device, dataloader_idx: int) -> list[Tensor]:
        """Return the batch as it is when it lies on `device` already, as those of images in memory do."""
        if batch[0].device == device:
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def _batches(self, split: str, batch_size: int, shuffle: bool) -> Batches:
        assert self.trainer is not None
        images, labels = self.resident(split, self.trainer.strategy.root_device)
        return Batches(
            images,
            labels,
            batch_size,
            shuffle,
            self.seed,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
            balanced=shuffle and self.balanced,
        )

    def resident(self, split: str, device: torch.device) -> tuple[Images, Tensor]:
        """Return a split as it lies on a device: uint8 images [N, C, H, W] and labels [N]; moved there once."""
        if (split, device) not in self._on_device:
            images, labels = self.data.test_images, self.data.test_labels
            index = torch.arange(len(labels))
            if split != "test":
                index = self.train_index if split == "train" else self.validation_index
                images, labels = self.data.train_images, self.data.train_labels[index]
            if self.data.mapped:
                return Rows(images, index), labels
            if split != "test":
                images = images[index]
            images = images.contiguous(memory_format=torch.channels_last)
            self._on_device[split, device] = images.to(device), labels.to(device)
        return self._on_device[split, device]
