"""Images that a user's own function or class returns."""

from __future__ import annotations

import os

import pytest
import torch

from cnnlab.data import load
from cnnlab.errors import UsageError
from cnnlab.evaluation import known_images
from cnnlab.settings.dataset import OwnImages
from cnnlab.settings.trained import Choice
from commands import run, settings

CODE = '''
import numpy as np
import torch
from PIL import Image


def arrays(count=40, side=8, channels=0, values=np.uint8, labels=np.int64, root=None, download=None, seed=0):
    """Bright or dark squares."""
    random = np.random.default_rng(seed)
    shape = (count, side, side, channels) if channels else (count, side, side)
    truth = (np.arange(count) % 2).astype(labels)
    pixels = random.integers(0, 100, shape) + (truth.astype(int) * 150).reshape(-1, *[1] * (len(shape) - 1))
    return (pixels.astype(values), truth), (pixels[: count // 2].astype(values), truth[: count // 2])


def tensors(**arguments):
    (images, labels), test = arrays(channels=3, **arguments)
    return (torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels)), test, ["dark", "bright"]


class Pictures(torch.utils.data.Dataset):
    classes = ["dark", "bright"]

    def __init__(self, mode, odd=None):
        self.mode, self.odd = mode, odd

    def __len__(self):
        return 20

    def __getitem__(self, place):
        if place == self.odd:
            raise OSError("no such picture")
        return Image.new(self.mode, (6, 5), (place % 2) * 200), place % 2


def pictures(mode="L", odd=None):
    return Pictures(mode, odd), Pictures(mode)


def uneven():
    images, labels = arrays()[0]
    return [(images[0], 0), (images[1][:4], 1)], (images, labels)


def given(what):
    part = arrays()[0]
    return {
        "one": part,
        "none": None,
        "floats": ((part[0] / 255, part[1]), part),
        "short": ((part[0], part[1][:5]), part),
        "text": ((part[0], ["a"] * 40), part),
        "seven": ((part[0], part[1] + 6), part, ["a", "b"]),
        "names": (part, part, "ab"),
        "twice": (part, part, ["a", "a"]),
        "copied": ((part[0][:4], part[1][:4]), (part[0][[2, 1, 9]], [0, 0, 1])),
        "unlike": (part, (part[0][:, :4], part[1])),
        "single": ((part[0], part[1] * 0), (part[0], part[1] * 0)),
        "empty": (part, (part[0][:0], part[1][:0])),
        "iterator": (iter([1]), part),
        "first": ((part[0][:, None], part[1]), part),
        "lists": ([([[1]], 0)], part),
    }[what]
'''


@pytest.fixture(autouse=True)
def own_module(tmp_path, monkeypatch):
    (tmp_path / "own_images.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))


def section(target: str, **arguments: object) -> OwnImages:
    added = [f"+dataset.{key}={value}" for key, value in arguments.items()]
    made = settings("dataset=own", f"dataset._target_={target}", *added).dataset
    assert isinstance(made, OwnImages)
    return made


def loaded(target: str, **arguments: object):
    return load(section(f"own_images.{target}", **arguments))


def refused(target: str, **arguments: object) -> str:
    with pytest.raises(UsageError) as raised:
        loaded(target, **arguments)
    (line,) = raised.value.problems
    assert "\n" not in line
    return line


def test_arrays_are_grey_or_have_their_channels_last():
    grey, colour = loaded("arrays"), loaded("arrays", channels=3)
    assert grey.train_images.shape == (40, 1, 8, 8) and grey.test_images.shape == (20, 1, 8, 8)
    assert colour.input_shape == (3, 8, 8) and grey.class_names == ("0", "1") and grey.name == "own"
    raw, _ = __import__("own_images").arrays(channels=3)
    assert torch.equal(colour.train_images[3, 2], torch.from_numpy(raw[0][3, :, :, 2]))


def test_tensors_have_their_channels_first_and_classes_may_have_names():
    data = loaded("tensors")
    assert data.input_shape == (3, 8, 8) and data.class_names == ("dark", "bright")
    assert torch.equal(data.train_images, loaded("arrays", channels=3).train_images)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("P", 3)])
def test_a_dataset_of_torchs_is_read_item_by_item(mode, channels):
    data = loaded("pictures", mode=mode)
    assert data.train_images.shape == (20, channels, 5, 6) and data.class_names == ("dark", "bright")
    assert data.train_labels.tolist() == [0, 1] * 10


def test_root_and_download_are_given_to_those_that_ask(monkeypatch):
    seen = {}
    module = __import__("own_images")
    arrays = module.arrays
    monkeypatch.setattr(module, "arrays", lambda root, download: seen.update(root=root, download=download) or arrays())
    loaded("arrays")
    assert seen == {"root": os.environ.get("CNNLAB_DATA", "data"), "download": True}


def test_the_digest_and_the_keys_follow_the_content():
    first, same, other = loaded("arrays"), loaded("arrays"), loaded("arrays", seed=1)
    assert first.digest == same.digest != other.digest
    assert first.train_keys[:20] == first.test_keys and len(set(first.train_keys)) == 40
    assert not set(first.train_keys) & set(other.train_keys)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("one", "train, item 0 is ndarray; it takes (image, label)"),
        ("none", "returns NoneType; it takes (train, test) or (train, test, class_names)"),
        ("floats", "train: its pixels are float64; it takes uint8 from 0 to 255"),
        ("short", "train: 40 images, but 5 labels"),
        ("text", "train: its labels are <U1, such as"),
        ("seven", "train: label 6; allowed: 0 to 1"),
        ("names", "its class names are 'ab'; they are a list of texts"),
        ("twice", "its class names hold 'a' twice; every class needs a name of its own"),
        ("unlike", "images are [1, 8, 8] in train and [1, 4, 8] in test"),
        ("single", "there are 1 classes; at least 2 are needed"),
        ("empty", "test: it holds no images"),
        ("iterator", "train is list_iterator; it takes a dataset with a length"),
        ("first", "an image has the shape [1, 8, 8]; an array is [height, width, channels]"),
        ("lists", "train, item 0: its image is list of length 1; it takes a PIL image, an array or a tensor"),
    ],
)
def test_what_is_no_classification_problem_is_one_line(what, words):
    with pytest.raises(UsageError) as raised:
        loaded("given", what=what)
    assert words in raised.value.problems[0]
    assert all(line.startswith("dataset._target_='own_images.given'") for line in raised.value.problems)
    assert not any("\n" in line for line in raised.value.problems)


def test_copies_across_splits_and_classes_are_told():
    assert loaded("given", what="copied").layout.splitlines() == [
        "warning: 2 images in more than one split: train, item 1 = test, item 1",
        "warning: 1 image in more than one class: train, item 1 (1) = test, item 1 (0)",
    ]
    assert loaded("pictures").layout.startswith("warning: 2 images in more than one split: train, item 0 = ")


def test_what_its_own_code_raises_is_one_line():
    assert refused("pictures", odd=3).endswith("train, item 3: no such picture")
    uneven = "item 1: its image has the shape [1, 4, 8], the first one [1, 8, 8]; all need the same"
    assert refused("uneven").endswith(uneven)
    assert "unexpected keyword argument 'cuont'" in refused("arrays", cuont=3)
    assert "nothing_there" in refused("nothing_there")


@pytest.mark.slow
def test_it_is_trained_on_and_evaluated_where_the_command_names_it_again(tmp_path):
    (tmp_path / "conf" / "dataset").mkdir(parents=True)
    (tmp_path / "conf" / "dataset" / "squares.yaml").write_text(
        "defaults: [own]\nname: squares\n_target_: own_images.arrays\ncount: 120\nside: 12\n"
    )
    quick = ("model=dnn", "trainer.max_epochs=1", "figures.enabled=false", "tracking.log_model=false")
    mine = ("dataset=squares", "--config-dir=conf")
    done = run(tmp_path, "train.py", *quick, *mine)
    assert done.returncode == 0, done.stderr
    assert "squares: " in done.stdout and "60 test images" in done.stdout
    measured = [line for line in done.stdout.splitlines() if line.startswith("test/acc")]
    again = run(tmp_path, "evaluate.py", "run=best", "figures.enabled=false", *mine)
    assert again.returncode == 0, again.stderr
    assert measured[0].split() in [line.split() for line in again.stdout.splitlines()]
    more = run(tmp_path, "evaluate.py", "run=best", "figures.enabled=false", "dataset.count=130", *mine)
    assert "the images have changed since the training" in more.stdout, more.stderr
    refused = run(tmp_path, "evaluate.py", "run=best", "figures.enabled=false")
    assert refused.returncode == 2
    assert "dataset._target_='own_images.arrays'; if you trust that code, name it again" in refused.stderr


def test_code_that_only_a_checkpoint_names_is_never_called():
    described = section("os.mkdir", path="trace")
    for chosen in (None, Choice(name="own"), Choice.model_validate({"name": "own", "_target_": "os.rmdir"})):
        with pytest.raises(UsageError, match="if you trust that code"):
            known_images(described, chosen)
