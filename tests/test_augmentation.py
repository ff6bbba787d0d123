"""Augmentations against pictures one can check by eye, and weight averaging against the numbers it reports."""

from __future__ import annotations

import pytest
import torch

from cnnlab.data.augmentation import Affine, CutMix, Cutout, Flip, Mixup, Parts, RandomErasing, Shift
from cnnlab.errors import UsageError
from cnnlab.plan import make_plan
from cnnlab.quoting import quote_texts
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


@pytest.mark.parametrize("default", [torch.float32, torch.bfloat16], ids=["bf16-mixed", "bf16-true"])
def test_affine_without_amounts_changes_nothing_under_any_precision(default):
    images = torch.randint(0, 256, (5, 3, 28, 20), dtype=torch.uint8)
    affine = Affine(3, degrees=0, scale=0, translate=0, shear=0)
    torch.set_default_dtype(default)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            same, _ = affine(images, LABELS[:5])
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(same, images.float(), atol=2e-3, rtol=0)


def test_affine_turns_without_stretching(monkeypatch):
    # The random numbers 0.75 and 0.5 become +0.5 and 0: half of 180 degrees, a quarter turn, and nothing else.
    monkeypatch.setattr(torch, "rand", lambda *size, device, dtype: torch.tensor([0.75, 0.5, 0.5, 0.5, 0.5]).view(5, 1))
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


def test_flip_mirrors_the_share_it_is_told():
    image = torch.arange(1, 13, dtype=torch.uint8).view(1, 1, 3, 4)
    images = image.repeat(400, 1, 1, 1)
    flipped, _ = Flip(3, chance=0.25)(images, torch.zeros(400))
    mirrored = sum(torch.equal(one, image.flip(3)[0]) for one in flipped)
    assert 60 < mirrored < 140 and mirrored + sum(torch.equal(one, image[0]) for one in flipped) == 400


def test_random_erasing_replaces_one_rectangle_of_the_area_and_shape_it_is_told():
    images = torch.full((500, 2, 20, 30), 9, dtype=torch.uint8)
    erasing = RandomErasing(3, chance=0.5, area=(0.1, 0.2), ratio=(0.5, 2.0), fill="black")
    erased, _ = erasing(images, torch.zeros(500))
    black = erased == 0
    assert torch.equal(black[:, 0], black[:, 1]), "the same rectangle in every channel"
    hit = black[:, 0][black.any(3).any(2).any(1)]
    assert 200 < len(hit) < 300
    heights, widths = hit.any(2).sum(1), hit.any(1).sum(1)
    assert torch.equal(hit.sum((1, 2)), heights * widths), "a whole rectangle"
    area, ratio = heights * widths / 600, heights / widths
    assert 0.085 < area.min() < 0.12 < 0.18 < area.max() < 0.215, "but for the rounding to whole pixels"
    assert 0.4 < ratio.min() < 0.7 < 1.5 < ratio.max() < 2.4
    assert hit[:, 0].any() and hit[:, -1].any() and hit[:, :, 0].any() and hit[:, :, -1].any(), "up to every edge"


def test_random_erasing_fills_with_noise_of_its_own():
    images = torch.full((50, 1, 20, 20), 9, dtype=torch.uint8)
    erased, _ = RandomErasing(3, chance=1, area=(0.2, 0.4), ratio=(1, 1), fill="noise")(images, torch.zeros(50))
    noise = erased[erased != 9].float()
    assert erased.dtype == torch.uint8 and 110 < noise.mean() < 145 and noise.std() > 60


def test_cutmix_pastes_a_rectangle_and_shares_the_label_by_its_pixels():
    # Each image is its class, in grey, so that the share of its pixels is its share of the label.
    images = LABELS.view(-1, 1, 1, 1).expand(-1, 1, 12, 10).to(torch.uint8)
    mixed, targets = CutMix(3, alpha=1.0)(images, LABELS)
    shares = torch.stack([(mixed[:, 0] == name).float().mean((1, 2)) for name in range(3)], 1)
    torch.testing.assert_close(targets, shares)
    assert mixed.dtype == torch.uint8 and ((targets > 0).sum(1) == 2).any()
    theirs = (mixed != images)[:, 0]
    assert torch.equal(theirs.sum((1, 2)), theirs.any(2).sum(1) * theirs.any(1).sum(1)), "a whole rectangle"


def test_parts_are_done_in_their_order():
    images = torch.full((20, 1, 12, 12), 9, dtype=torch.uint8)
    black, noise = Cutout(3, size=50), RandomErasing(3, chance=1, area=(1, 1), ratio=(1, 1), fill="noise")
    assert Parts([noise, black])(images, torch.zeros(20))[0].max() == 0
    assert Parts([black, noise])(images, torch.zeros(20))[0].max() > 200


def test_parts_that_blend_twice_end_with_shares():
    images = torch.randint(0, 256, (64, 1, 8, 8), dtype=torch.uint8)
    _, targets = Parts([Mixup(3, alpha=1.0), CutMix(3, alpha=1.0)])(images, LABELS)
    torch.testing.assert_close(targets.sum(1), torch.ones(64))
    assert ((targets > 0).sum(1) == 3).any()


def test_a_list_of_augmentations_is_built_in_its_order_with_settings_of_their_own(tmp_path):
    listed = ("augmentation=[shift,cutout]", "augmentation.cutout.size=3", "augmentation.shift.max_shift=1")
    for parts in (listed, ("augmentation=parts", "augmentation.parts=[shift,cutout]", *listed[1:])):
        made = settings(*quote_texts(parts), f"tracking.uri=sqlite:///{tmp_path}/mlflow.db")
        first, second = make_plan(made, tmp_path).classifier.augmentation.parts
        assert (type(first), first.max_shift, type(second), second.size) == (Shift, 1, Cutout, 3)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["augmentation=[shift,cutuot]"], "augmentation.parts='cutuot' is unknown; allowed: affine, shift, flip, "),
        (["augmentation=[shift,shift]"], "augmentation.parts=['shift', 'shift'] names 'shift' twice"),
        (["augmentation=[]"], "augmentation.parts=[] is not allowed; augmentation.parts takes a list of affine, shift"),
        (["augmentation=random_erasing", "augmentation.area=[0.4,0.1]"], "augmentation.area=[0.4, 0.1] is not allowed"),
        (["augmentation=[cutout]", "augmentation.cutout.size=0"], "augmentation.cutout.size=0 is not allowed"),
        (["augmentation=flip", "augmentation.chance=1.5"], "augmentation.chance=1.5 is not allowed"),
    ],
)
def test_what_no_augmentation_can_be_is_one_line(given, line):
    with pytest.raises(UsageError) as raised:
        settings(*quote_texts(given))
    (problem,) = raised.value.problems
    assert problem.startswith(line)


def test_the_command_takes_a_list_and_says_where_a_part_of_it_belongs(tmp_path):
    quick = ("model=dnn", "trainer.max_epochs=1", "tracking.log_model=false", "figures.enabled=false")
    chosen = ("augmentation=[affine,random_erasing,cutmix]", "augmentation.cutmix.alpha=0.5")
    first, again = (run(tmp_path, "train.py", *quick, *chosen, "seed=3") for _ in range(2))
    assert first.returncode == 0, first.stderr
    losses = [[line for line in one.stdout.splitlines() if line.startswith("test/")] for one in (first, again)]
    assert losses[0] == losses[1], "the same seed, the same changes"
    wrong = run(tmp_path, "train.py", *quick, "augmentation.cutout.size=4")
    assert wrong.returncode == 2 and "augmentation.cutout.size belongs to augmentation=parts" in wrong.stderr
    idle = run(tmp_path, "train.py", *quick, "augmentation=[affine,cutmix]", "augmentation.cutout.size=4")
    assert idle.returncode == 2
    assert (
        "augmentation.cutout.size=4 has no effect: 'cutout' is not among augmentation.parts=['affine', 'cutmix']"
        in (idle.stderr)
    )


@pytest.mark.parametrize("name", ["shift", "affine", "flip", "cutout", "random_erasing", "mixup", "cutmix", "parts"])
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
    (checkpoint,) = tmp_path.glob("outputs/*/*/checkpoints/epoch_*.ckpt")
    for split, expected in (("test", said["test/acc"]), ("val", validated)):
        measured = run(tmp_path, "evaluate.py", f"checkpoint={checkpoint}", f"split={split}", "figures.enabled=false")
        assert measured.returncode == 0, measured.stderr
        assert f"{split}/acc" in measured.stdout
        line = next(line for line in measured.stdout.splitlines() if line.startswith(f"{split}/acc"))
        assert line.split()[1] == expected


@pytest.mark.parametrize("name", ["affine", "mixup", "parts"])
def test_augmented_pixels_train_a_network_that_is_all_bfloat16(name, tmp_path):
    quick = ("model=dnn", "callbacks=last_checkpoint", "+trainer.max_steps=2", "trainer.precision=bf16-true")
    plan = make_plan(settings(f"augmentation={name}", *quick, f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"), tmp_path)
    plan.trainer.fit(plan.classifier, plan.data_module)
    assert plan.trainer.global_step == 2
