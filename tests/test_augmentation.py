"""Augmentations against pictures one can check by eye, and weight averaging against the numbers it reports."""

from __future__ import annotations

import pytest
import torch

from cnnlab.data.augmentation import Affine, Cutout, Mixup, Shift
from cnnlab.plan import make_plan
from commands import run, settings


@pytest.fixture
def dot() -> torch.Tensor:
    """64 grey images of 9x7 with one bright pixel at row 4, column 3."""
    images = torch.zeros(64, 1, 9, 7, dtype=torch.uint8)
    images[:, 0, 4, 3] = 200
    return images


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


LABELS = torch.arange(64) % 3


def test_shift_moves_each_image_by_its_own_whole_pixels(dot):
    images, targets = Shift(3, max_shift=2, flip=False)(dot, LABELS)
    assert images.dtype == torch.uint8 and images.shape == dot.shape
    assert torch.equal(targets, LABELS)
    places = images[:, 0].nonzero()[:, 1:]
    assert len(places) == 64 and (images.amax((1, 2, 3)) == 200).all(), "the pixel is moved, never lost or blurred"
    moved = places - torch.tensor([4, 3])
    assert {tuple(move.tolist()) for move in moved} > {(0, 0), (-2, 0), (0, 2)}
    assert moved.abs().max() == 2


def test_shift_brings_black_in_from_outside():
    images = torch.full((200, 3, 5, 5), 255, dtype=torch.uint8)
    shifted, _ = Shift(3, max_shift=1, flip=False)(images, torch.zeros(200))
    # Moved by one in one direction: 5 of 25 pixels are black; in both: 9.
    assert set((shifted[:, 0] == 0).sum((1, 2)).tolist()) == {0, 5, 9}


def test_shift_mirrors_half_of_the_images_when_told_to():
    image = torch.arange(1, 13, dtype=torch.uint8).view(1, 1, 3, 4)
    mirror = image.flip(3)
    shifted, _ = Shift(3, max_shift=1, flip=True)(image.repeat(400, 1, 1, 1), torch.zeros(400))
    seen = [sum(torch.equal(one, whole[0]) for one in shifted) for whole in (image, mirror)]
    # One in 9 is not moved, half of those are mirrored: 22 of each, give or take 5.
    assert all(5 < number < 45 for number in seen)


def test_affine_without_amounts_changes_nothing():
    images = torch.randint(0, 256, (5, 3, 9, 7)).float()
    same, _ = Affine(3, degrees=0, scale=0, translate=0, shear=0)(images, LABELS[:5])
    torch.testing.assert_close(same, images, atol=1e-2, rtol=1e-4)


def test_affine_turns_without_stretching(monkeypatch):
    # The random numbers 0.75 and 0.5 become +0.5 and 0: half of 180 degrees, a quarter turn, and nothing else.
    monkeypatch.setattr(torch, "rand", lambda *size, device: torch.tensor([0.75, 0.5, 0.5, 0.5, 0.5]).view(5, 1))
    image = torch.zeros(1, 1, 9, 7)
    image[0, 0, 4, 5] = 100  # two to the right of the centre
    turned, _ = Affine(3, degrees=180, scale=0, translate=0, shear=0)(image, LABELS[:1])
    ((row, column),) = (turned[0, 0] > 50).nonzero().tolist()
    assert column == 3 and abs(row - 4) == 2, "two above or below the centre, although the image is not square"


def test_cutout_blackens_one_square():
    images = torch.full((300, 2, 12, 10), 9, dtype=torch.uint8)
    cut, _ = Cutout(3, size=4)(images, torch.zeros(300))
    black = (cut == 0).sum((2, 3))
    assert torch.equal(black[:, 0], black[:, 1]), "the same square in every channel"
    assert black.max() == 16 and black.min() >= 4, "whole inside, at least a quarter in a corner"


def test_mixup_blends_images_and_labels_alike():
    # Each image is its class, in grey: the blend of the grey is the blend of the label.
    images = LABELS.view(-1, 1, 1, 1).expand(-1, 1, 2, 2).to(torch.uint8)
    mixed, targets = Mixup(3, alpha=1.0)(images, LABELS)
    torch.testing.assert_close(targets.sum(1), torch.ones(64))
    torch.testing.assert_close(mixed[:, 0, 0, 0], targets @ torch.tensor([0.0, 1.0, 2.0]))
    assert ((targets > 0).sum(1) == 2).any()


@pytest.mark.parametrize("name", ["shift", "affine", "cutout", "mixup"])
def test_trains_on_colour_and_leaves_validation_alone(name, tmp_path):
    made = settings(
        f"augmentation={name}",
        "model=dnn",
        "+trainer.max_steps=1",
        "callbacks=last_checkpoint",
        f"tracking.uri=sqlite:///{tmp_path}/mlflow.db",
    )
    plan = make_plan(made, tmp_path)
    data = plan.data
    batch = data.train_images[:8], data.train_labels[:8]
    plan.classifier.eval()
    first, second = (float(plan.classifier.objective("val", batch).detach()) for _ in range(2))
    trained = float(plan.classifier.objective("train", batch).detach())
    assert first == second != trained
    colours, _ = plan.classifier.augmentation(torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8), LABELS[:8])
    assert colours.shape == (8, 3, 32, 32)
    plan.trainer.fit(plan.classifier, plan.data_module)
    assert plan.trainer.global_step == 1


def test_averaged_weights_are_the_ones_validated_kept_and_tested(tmp_path):
    quick = ("tracking.log_model=false", "figures.enabled=false")
    trained = run(tmp_path, "train.py", "model=dnn", "trainer.max_epochs=2", "callbacks.ema_decay=0.99", *quick)
    assert trained.returncode == 0, trained.stderr
    said = dict(line.split(maxsplit=1) for line in trained.stdout.splitlines() if line.startswith("test/"))
    validated = trained.stdout.split("epoch 2/2")[1].split("val/")[1].split("acc ")[1].split()[0]
    (checkpoint,) = tmp_path.glob("outputs/*/*/checkpoints/*.ckpt")
    for split, expected in (("test", said["test/acc"]), ("val", validated)):
        measured = run(tmp_path, "evaluate.py", f"checkpoint={checkpoint}", f"split={split}", "figures.enabled=false")
        assert measured.returncode == 0, measured.stderr
        assert f"{split}/acc" in measured.stdout
        line = next(line for line in measured.stdout.splitlines() if line.startswith(f"{split}/acc"))
        assert line.split()[1] == expected
