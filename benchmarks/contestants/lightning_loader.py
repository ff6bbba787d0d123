"""What most people write: a LightningModule, and a DataLoader that transforms each image by itself in two processes.

The parts are those of lightning-hydra-template: ToTensor and Normalize on PIL images as torchvision's MNIST has them,
torchmetrics logged by every step, a checkpoint and a CSV logger; its workers are kept from epoch to epoch.
"""

from __future__ import annotations

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from PIL import Image
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy
from torchvision import transforms

from benchmarks.contestants.callback import WaitForTurn
from benchmarks.contestants.network import build, penalty
from benchmarks.gate import task


class Images(Dataset):
    """Images as torchvision's own MNIST gives them: one at a time, as a PIL image that is transformed."""

    def __init__(self, wanted: dict):
        self.data = torch.from_numpy(np.load(wanted["images"]))
        self.targets = torch.from_numpy(np.load(wanted["labels"]))
        scale = transforms.Normalize((0.0,), (1 / (255 * wanted["scale"]),))
        self.transform = transforms.Compose([transforms.ToTensor(), scale])

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.data[place].numpy())), int(self.targets[place])


class Module(pl.LightningModule):
    def __init__(self, wanted: dict, sides: tuple[int, int]):
        super().__init__()
        self.wanted = wanted
        self.network = build(wanted | {"sides": sides})
        self.train_loss = MeanMetric()
        self.train_acc = MulticlassAccuracy(wanted["classes"], average="micro")

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        images, labels = batch
        logits = self.network(images)
        loss = F.cross_entropy(logits, labels) + penalty(self.network, self.wanted["l2"])
        self.train_loss(loss)
        self.train_acc(logits.argmax(1), labels)
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True)
        self.log("train/acc", self.train_acc, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.wanted["lr"], eps=self.wanted["eps"])


def main() -> None:
    wanted = task()
    torch.set_num_threads(wanted["threads"])
    pl.seed_everything(0, verbose=False)
    images = Images(wanted)
    loader = DataLoader(
        images,
        batch_size=wanted["batch_size"],
        shuffle=True,
        num_workers=wanted["workers"],
        persistent_workers=True,
        pin_memory=wanted["device"] == "gpu",
    )
    trainer = pl.Trainer(
        accelerator=wanted["device"],
        devices=1,
        max_epochs=1_000_000,
        logger=CSVLogger("."),
        callbacks=[ModelCheckpoint(save_last=True), WaitForTurn()],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Module(wanted, tuple(images.data.shape[1:])), loader)


if __name__ == "__main__":
    main()
