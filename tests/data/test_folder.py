"""A user's own directory of class folders."""

import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from cnnlab.data import load
from cnnlab.data.pixels import read_image
from cnnlab.data.split import divide
from cnnlab.errors import UsageError
from cnnlab.plan import make_plan
from cnnlab.settings.dataset import ImageFolder
from cnnlab.settings.read import read
from commands import composed, settings


def config(path, **changes):
    small = {"image_size": 8, "test_fraction": 0.25, "path": None if path is None else str(path)}
    values = composed("dataset=image_folder")["dataset"] | small | changes
    return read(ImageFolder, values, "dataset.")


def save(path, mode="L", size=(12, 10), colour=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


def fill(root, classes=("cat", "dog"), count=8):
    for shade, name in enumerate(classes):
        for number in range(count):
            save(root / name / f"{number}.png", colour=shade * 100 + number)


def problems(path, **changes):
    with pytest.raises(UsageError) as caught:
        load(config(path, **changes))
    assert not any("\n" in line for line in caught.value.problems)
    return caught.value.problems


def test_class_folders_with_a_fixed_stratified_test_split(tmp_path):
    fill(tmp_path, ("собака", "猫", "çat"))
    save(tmp_path / "猫" / ".hidden.png")
    save(tmp_path / ".cache" / "0.png")
    (tmp_path / "猫" / "notes.txt").write_text("not an image")
    (tmp_path / "猫" / "paper.pdf").write_text("written by Pillow, never read")
    data = load(config(tmp_path))
    assert data.class_names == ("çat", "собака", "猫")
    assert data.input_shape == (1, 8, 8)
    counts = torch.bincount(data.train_labels) + torch.bincount(data.test_labels)
    assert counts.tolist() == [8, 8, 8] and torch.bincount(data.test_labels).min() >= 1
    # fill() gave the classes the shades 0.., 100.., 200.. in its own order.
    assert {int(image.max()) // 100 for image in data.train_images[data.train_labels == 2]} == {1}
    assert load(config(tmp_path)).digest == data.digest
    assert load(config(tmp_path, test_seed=1)).digest != data.digest


def test_train_and_test_folders_are_the_splits(tmp_path):
    fill(tmp_path / "train", count=4)
    fill(tmp_path / "test", count=1)
    data = load(config(tmp_path, channels=3, image_size=[6, 9]))
    assert data.train_images.shape == (8, 3, 6, 9) and data.test_images.shape == (2, 3, 6, 9)
    assert data.test_labels.tolist() == [0, 1] and data.test_images[1].unique().tolist() == [100]


@pytest.mark.parametrize("validation", ["val", "valid", "Validation", "Dev", "eval"])
def test_a_validation_folder_is_the_validation_split(tmp_path, validation):
    fill(tmp_path / "train", count=4)
    fill(tmp_path / validation, count=2)
    fill(tmp_path / "test", count=1)
    made = config(tmp_path)
    data = load(made)
    train, held_out = divide(data, made.validation)
    assert data.class_names == ("cat", "dog")
    assert (len(train), len(held_out), len(data.test_labels)) == (8, 4, 2)
    # fill() numbers the shades of a folder's images from 0: the validation folder has 0 and 1 of each class.
    shades = sorted(int(image.max()) for image in data.train_images[held_out])
    assert shades == [0, 1, 100, 101]
    assert data.layout.startswith(f"splits: train from train/, val from {validation}/, test from test/\nimages: grey")


def test_without_a_test_folder_it_comes_out_of_train_alone(tmp_path):
    fill(tmp_path / "train", count=8)
    fill(tmp_path / "val", count=2)
    made = config(tmp_path)
    data = load(made)
    train, held_out = divide(data, made.validation)
    assert len(held_out) == 4 and len(train) + len(data.test_labels) == 16 and len(data.test_labels) >= 2
    assert "splits: train from train/, val from val/, test from 0.25 of train/" in data.layout


def test_a_train_folder_alone_is_divided(tmp_path):
    fill(tmp_path / "train", count=8)
    data = load(config(tmp_path))
    assert data.class_names == ("cat", "dog") and len(data.test_labels) >= 2
    assert "splits: train from train/, val from 0.1 of the training images, test from 0.25 of train/" in data.layout


@pytest.mark.parametrize(("train", "test"), [("Training", "testing"), ("train", "Tests")])
def test_splits_have_other_names_too(tmp_path, train, test):
    fill(tmp_path / train, count=8)
    fill(tmp_path / test, count=1)
    data = load(config(tmp_path))
    assert data.class_names == ("cat", "dog") and len(data.test_labels) == 2
    assert f"splits: train from {train}/" in data.layout and f"test from {test}/" in data.layout


def test_splits_under_names_of_their_own_are_no_classes(tmp_path):
    fill(tmp_path / "seg_train")
    fill(tmp_path / "seg_test")
    (line,) = problems(tmp_path)
    assert "seg_test/, seg_train/ hold no images but the same folders, cat/, dog/" in line
    assert "name them train/ and test/" in line


def test_folders_inside_classes_stay_allowed(tmp_path):
    for name in ("cat", "dog"):
        fill(tmp_path / "one" / name, ("images",))
        fill(tmp_path / "some" / name, ("day", "night", name))
        fill(tmp_path / "beside" / name, ("day", "night"))
        save(tmp_path / "beside" / name / "1.png")
        fill(tmp_path / "told" / "train" / name, ("day", "night"))
    for layout in ("one", "some", "beside", "told"):
        assert load(config(tmp_path / layout)).class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        (["train", "cat"], "holds train/ beside cat/: no class may be called like a split"),
        (["test", "cat", "dog"], "holds test/ beside cat/, dog/"),
        (["val", "test"], "holds test/, val/ without train/"),
        (["train", "val", "valid"], "holds val/, valid/ for one split"),
    ],
)
def test_classes_called_like_splits_are_refused(tmp_path, folders, words):
    for folder in folders:
        fill(tmp_path / folder)
    (line,) = problems(tmp_path)
    assert words in line


@pytest.mark.parametrize(
    ("mode", "colour"), [("L", 90), ("RGB", (90, 90, 90)), ("RGBA", (90, 90, 90, 255)), ("I;16", 90 * 257)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_becomes_eight_bits(tmp_path, mode, colour, channels):
    save(tmp_path / "a.png", mode, colour=colour)
    pixels = read_image(tmp_path / "a.png", channels, (4, 5))
    assert pixels.shape == (channels, 4, 5) and pixels.dtype == torch.uint8 and pixels.unique().tolist() == [90]


def test_palette_grey_value_and_transparency(tmp_path):
    red = Image.new("RGB", (4, 4), (255, 0, 0)).quantize(4)
    red.save(tmp_path / "palette.gif")
    assert read_image(tmp_path / "palette.gif", 3, (4, 4)).float().mean((1, 2)).tolist() == [255, 0, 0]
    # Luminance of pure red: 0.299 * 255 = 76.2.
    assert read_image(tmp_path / "palette.gif", 1, (4, 4)).unique().tolist() == [76]
    save(tmp_path / "clear.png", "RGBA", colour=(0, 0, 0, 0))
    assert read_image(tmp_path / "clear.png", 1, (4, 4)).unique().tolist() == [255]


def test_exif_orientation_is_honoured(tmp_path):
    pixels = np.zeros((8, 8), dtype=np.uint8)
    pixels[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that the top of the scene is on the left of the file; turn it clockwise
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    upright = read_image(tmp_path / "a.png", 1, (8, 8))[0]
    assert upright[:, 4:].unique().tolist() == [255] and upright[:, :4].unique().tolist() == [0]


def test_the_resize_is_antialiased(tmp_path):
    # One-pixel stripes: without antialiasing a quarter-size image would pick single stripes, all 0 or all 255.
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (32, 16))
    Image.fromarray(stripes).save(tmp_path / "a.png")
    small = read_image(tmp_path / "a.png", 1, (8, 8))[0, :, 1:-1]
    assert int(small.min()) > 110 and int(small.max()) < 145


def test_a_path_that_is_missing_or_not_given(tmp_path):
    assert problems(None)[0].startswith("dataset.path=null: set dataset.path")
    assert problems(tmp_path / "absent") == [
        f"dataset.path={tmp_path / 'absent'} is not a directory; expected one folder of images per class in it"
    ]


def test_one_class_no_images_too_few(tmp_path):
    (tmp_path / "empty").mkdir()
    fill(tmp_path / "one", ("cat",))
    fill(tmp_path / "few", ("cat",), count=8)
    fill(tmp_path / "few", ("dog",), count=2)
    assert "holds no images" in problems(tmp_path / "empty")[0]
    assert "holds one class, 'cat'" in problems(tmp_path / "one")[0]
    (line,) = problems(tmp_path / "few")
    assert "'dog' (2) with too few images; every class needs 3" in line


def test_all_problems_together_and_unreadable_images_by_name(tmp_path):
    fill(tmp_path / "train", ("cat", "dog"))
    fill(tmp_path / "test", ("cat", "dgo"))
    for number in range(6):
        broken = tmp_path / "train" / "cat" / f"{number}.png"
        broken.write_bytes(broken.read_bytes()[:40])
    (tmp_path / "test" / "cat" / "7.png").write_text("no image")
    lines = problems(tmp_path)
    assert len(lines) == 3
    assert "dog in train/ but not in test/" in lines[0] and "dgo in test/ but not in train/" in lines[1]
    assert "7 unreadable images: train/cat/0.png" in lines[2] and lines[2].endswith("and 2 more")


def test_settings_out_of_range(tmp_path):
    lines = problems(tmp_path, image_size=0, channels=2, test_fraction=1.5, test_seed=-1)
    assert [line.split("=")[0] for line in lines] == [
        "dataset.image_size",
        "dataset.channels",
        "dataset.test_fraction",
        "dataset.test_seed",
    ]


def places(data, validation):
    """Return the split of each image by its content's key."""
    train, held_out = divide(data, validation)
    found = {data.train_keys[place]: "train" for place in train} | {data.train_keys[place]: "val" for place in held_out}
    return found | dict.fromkeys(data.test_keys, "test")


def test_images_stay_in_their_split_when_others_are_added(tmp_path):
    fill(tmp_path, count=40)
    made = config(tmp_path)
    before = places(load(made), made.validation)
    for number in range(40, 60):
        save(tmp_path / "cat" / f"{number:03}.png", size=(12, number))
        save(tmp_path / "dog" / f"a{number}.png", size=(number, 12))
    after = places(load(made), made.validation)
    assert len(before) == 80 and len(after) == 120
    assert {key: after[key] for key in before} == before
    assert 8 < sum(split == "test" for split in before.values()) < 35  # a quarter of 80, about
    assert set(before.values()) == {"train", "val", "test"}


def test_copies_across_splits_and_classes_are_told(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "test", count=1)
    save(tmp_path / "test" / "dog" / "other.png", size=(30, 30))
    shutil.copy(tmp_path / "train" / "cat" / "3.png", tmp_path / "train" / "dog" / "same.png")
    layout = load(config(tmp_path)).layout
    assert "warning: 2 images in more than one split: train/cat/0.png = test/cat/0.png" in layout
    assert "warning: 1 image in more than one class: train/cat/3.png = train/dog/same.png" in layout
    (tmp_path / "clean").mkdir()
    fill(tmp_path / "clean")
    assert "warning" not in load(config(tmp_path / "clean")).layout


@pytest.mark.parametrize(
    ("mode", "colour", "size", "shape", "words"),
    [
        ("RGB", (200, 30, 30), (160, 120), (3, 64, 64), "images: colour, 64x64 (crop)"),
        ("RGB", (90, 90, 90), (50, 40), (1, 40, 40), "images: grey, 40x40 (crop)"),
        ("L", 90, (28, 28), (1, 28, 28), "chosen by dataset.channels and dataset.image_size=auto"),
    ],
)
def test_channels_and_size_come_from_the_files(tmp_path, mode, colour, size, shape, words):
    for name in ("cat", "dog"):
        for number in range(4):
            save(tmp_path / name / f"{number}.png", mode, (size[0] + number * 2, size[1]), colour)
    data = load(config(tmp_path, image_size="auto"))
    assert data.input_shape == shape and words in data.layout
    assert load(config(tmp_path, image_size=9, channels=1)).input_shape == (1, 9, 9)


def test_resizing_keeps_the_aspect_ratio_unless_told(tmp_path):
    # Left black, middle white, right black: a third each of an image three times as wide as high.
    pixels = np.zeros((12, 36), dtype=np.uint8)
    pixels[:, 12:24] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    means = {way: read_image(tmp_path / "a.png", 1, (12, 12), way).float().mean() for way in ("crop", "pad", "stretch")}
    assert means["crop"] == 255
    assert means["stretch"] == pytest.approx(255 / 3, abs=10)
    assert means["pad"] == pytest.approx(255 / 9, abs=10)


def test_few_photos_make_one_small_batch_unless_a_size_was_chosen(tmp_path):
    fill(tmp_path / "photos")
    given = [
        "dataset=image_folder",
        f"dataset.path={tmp_path}/photos",
        "model=dnn",
        f"tracking.uri=sqlite:///{tmp_path}/m",
    ]
    plan = make_plan(settings(*given), tmp_path)
    assert plan.settings.batch_size == plan.data_module.sizes["train"] < plan.settings.dataset.batch_size
    with pytest.raises(UsageError, match="batch_size=40 is larger than the training split"):
        make_plan(settings(*given, "batch_size=40"), tmp_path)


def test_an_image_of_too_many_pixels_is_refused_by_its_header(tmp_path, monkeypatch):
    fill(tmp_path)
    save(tmp_path / "cat" / "bomb.png", mode="1", size=(20_000, 5_000), colour=0)
    assert (tmp_path / "cat" / "bomb.png").stat().st_size < 20_000
    assert load(config(tmp_path, max_pixels=100_000_000)).class_names == ("cat", "dog")
    decoded = []
    read = ImageFile.ImageFile.load
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: decoded.append(image.size) or read(image))
    (line,) = problems(tmp_path)
    assert line.endswith("1 unreadable image: cat/bomb.png (20000x5000 are more pixels than max_pixels=50000000)")
    assert (12, 10) in decoded and (20_000, 5_000) not in decoded


def test_a_file_that_is_a_program_is_no_image(tmp_path):
    fill(tmp_path)
    (tmp_path / "cat" / "program.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    (tmp_path / "cat" / "program.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    (line,) = problems(tmp_path)
    assert "1 unreadable image: cat/program.png (cannot identify image file" in line


@pytest.mark.parametrize(("name", "shown"), [(b"c\xe4t/0.png", r"c\xe4t/0.png"), (b"cat/\xff.png", r"cat/\xff.png")])
def test_names_that_are_no_text_are_refused(tmp_path, name, shown):
    fill(tmp_path)
    save(tmp_path / os.fsdecode(name))
    (line,) = problems(tmp_path)
    assert line == f"dataset.path={tmp_path}: names that are no UTF-8: {shown}; rename these files and folders"
