"""The data module inside a real Trainer."""

import warnings

import pytest
import pytorch_lightning as pl
import torch

from cnnlab import process
from cnnlab.data.images import ImageData
from cnnlab.data.module import ImageDataModule
from cnnlab.errors import UsageError

COUNT = 40


class Recorder(pl.LightningModule):
    """Learns next to nothing, and writes down the labels of every batch."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[str, list[list[int]]] = {"train": [], "validation": [], "test": []}

    def on_train_epoch_start(self):
        self.seen["train"].append([])

    def training_step(self, batch, _):
        images, labels = batch
        assert torch.equal(images[:, 0, 0, 0].long(), labels)
        self.seen["train"][-1].extend(labels.tolist())
        return self.weight * images.float().mean()

    def validation_step(self, batch, _):
        self.seen["validation"].append(batch[1].tolist())

    def test_step(self, batch, _):
        self.seen["test"].append(batch[1].tolist())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def module(seed=0, batch_size=8, validation=10):
    labels = torch.arange(COUNT)
    images = labels.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()
    names = tuple(str(label) for label in range(COUNT))
    data = ImageData("numbers", images, labels, images[:6], labels[:6], names, "counted")
    cut = COUNT - validation
    return ImageDataModule(data, labels[:cut], labels[cut:], batch_size, 4, seed)


def trainer(epochs, folder, **options):
    return pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        num_sanity_val_steps=0,
        **options,
    )


def fit(folder, epochs, seed=0, resume=None, **options):
    recorder, running = Recorder(), trainer(epochs, folder, **options)
    running.fit(recorder, datamodule=module(seed), ckpt_path=resume, weights_only=True if resume else None)
    return recorder.seen["train"], running


def test_each_epoch_has_its_own_order_and_a_resumed_run_continues_it(tmp_path):
    whole, _ = fit(tmp_path, 4)
    assert [sorted(epoch) for epoch in whole] == [list(range(30))] * 4
    assert len({tuple(epoch) for epoch in whole}) == 4
    assert fit(tmp_path, 4)[0] == whole
    assert fit(tmp_path, 1, seed=1)[0][0] not in whole

    first, stopped = fit(tmp_path, 2)
    stopped.save_checkpoint(tmp_path / "stopped.ckpt")
    rest, _ = fit(tmp_path, 4, resume=tmp_path / "stopped.ckpt")
    assert first + rest == whole


def test_lightning_has_nothing_to_warn_about(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        process.begin()  # as every command does
        # Not about the data: PyTorch's own deprecations inside Lightning.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        fit(tmp_path, 1)
        running = trainer(1, tmp_path)
        running.fit(Recorder(), datamodule=module(validation=0))
        running.test(Recorder(), datamodule=module(), verbose=False)


def test_validation_and_test_come_in_order(tmp_path):
    recorder, running = Recorder(), trainer(1, tmp_path)
    running.fit(recorder, datamodule=module())
    running.test(recorder, datamodule=module(), verbose=False)
    # 10 images in batches of at most 4 are three batches, of nearly equal size; 6 are two.
    assert recorder.seen["validation"] == [[30, 31, 32], [33, 34, 35], [36, 37, 38, 39]]
    assert recorder.seen["test"] == [[0, 1, 2], [3, 4, 5]]


def test_without_validation_images_validation_is_skipped(tmp_path):
    recorder, running = Recorder(), trainer(2, tmp_path)
    running.fit(recorder, datamodule=module(validation=0))
    assert recorder.seen["validation"] == [] and len(recorder.seen["train"]) == 2


def test_a_split_is_moved_once_and_a_batch_there_already_not_at_all(tmp_path):
    data, running = module(), trainer(1, tmp_path)
    running.fit(Recorder(), datamodule=data)
    assert data.train_dataloader().images.data_ptr() == data.train_dataloader().images.data_ptr()
    batch = next(iter(data.val_dataloader()))
    assert data.transfer_batch_to_device(batch, torch.device("cpu"), 0) is batch
    moved = data.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert moved[0].device.type == moved[1].device.type == "meta"


def test_a_batch_larger_than_the_training_split_is_refused():
    module(batch_size=30)
    with pytest.raises(UsageError, match=r"^batch_size=31 .* allowed: 1 to 30"):
        module(batch_size=31)
