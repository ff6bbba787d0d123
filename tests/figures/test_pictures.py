"""Every picture, opened again: there, not blank, and large enough to read, for few classes and for many."""

from __future__ import annotations

import csv
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

from cnnlab.data.scaling import Scaling
from cnnlab.figures import diagram, fonts, samples
from cnnlab.figures.canvas import lettering, new_figure, save, shorten, width_of
from cnnlab.figures.curves import draw_learning_curves, epoch_ticks
from cnnlab.figures.draw import Subject, draw_all
from cnnlab.figures.features import draw_feature_maps
from cnnlab.metrics import Predictions
from cnnlab.models import MLP, ConvNet, structure
from cnnlab.networks import build_network
from cnnlab.settings.commands import Figures
from commands import settings

SETTINGS = Figures(enabled=True, skip_epochs=2, mistakes=12, samples=10, diagram=True)
HISTORY = {
    "train/loss": {epoch: 2.3 / epoch for epoch in range(1, 9)},
    "val/loss": {epoch: 2.4 / epoch for epoch in range(1, 9)},
    "train/acc": {epoch: 1 - 0.5 / epoch for epoch in range(1, 9)},
    "val/acc": {epoch: 1 - 0.6 / epoch for epoch in range(1, 9)},
}
PICTURES = (
    "learning_curves",
    "learning_curves_from_epoch_3",
    "confusion_matrix",
    "mistakes",
    "samples",
    "filters",
    "feature_maps",
    "network",
)


def convnet(shape: tuple[int, int, int], classes: int) -> ConvNet:
    torch.manual_seed(0)
    return ConvNet(
        shape,
        classes,
        filters=[4, 8],
        kernel_size=3,
        stride=1,
        padding="same",
        pooling="max",
        pool_size=2,
        hidden_units=[16],
        activation="relu",
        normalization="none",
        conv_initializer="glorot_uniform",
        dense_initializer="glorot_uniform",
        conv_dropout=0.1,
        dense_dropout=0.1,
    )


def drawn(folder: Path, network, shape, names, labels, *, wrong: float = 0.3, history=HISTORY) -> list[str]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (len(labels), *shape), dtype=torch.uint8, generator=generator)
    told = torch.where(torch.rand(len(labels), generator=generator) < wrong, (labels + 1) % len(names), labels)
    logits = 4 * torch.nn.functional.one_hot(told, len(names)).float()
    scaling = Scaling(shape[0])
    subject = Subject(scaling, network, names, images, Predictions(logits, labels), "test", history, best_epoch=5)
    return draw_all(folder, SETTINGS, subject)


def opened(path: Path) -> np.ndarray:
    """Return the picture as grey levels, once it is clear that there is something on it."""
    pixels = np.asarray(Image.open(path).convert("L"))
    assert min(pixels.shape) >= 120, f"{path.name} is {pixels.shape}"
    assert pixels.std() > 5 and len(np.unique(pixels)) > 20, f"{path.name} is blank"
    return pixels


@pytest.mark.parametrize(("shape", "classes"), [((1, 28, 28), 3), ((3, 32, 32), 10), ((1, 28, 28), 100)])
def test_every_picture_is_there_and_shows_something(tmp_path, shape, classes):
    names = [f"class {number}" for number in range(classes)]
    labels = torch.arange(4 * classes) % classes
    drawn(tmp_path, convnet(shape, classes), shape, names, labels)
    for name in PICTURES:
        opened(tmp_path / f"{name}.png")


def test_the_counts_are_kept_as_a_table(tmp_path):
    drawn(tmp_path, convnet((1, 28, 28), 3), (1, 28, 28), ["a", "b", "c"], torch.tensor([0, 0, 1, 2]), wrong=0)
    with (tmp_path / "confusion_matrix.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0][1:] == ["a", "b", "c"]
    assert rows[1:] == [["a", "2", "0", "0"], ["b", "0", "1", "0"], ["c", "0", "0", "1"]]
    with (tmp_path / "classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["class"], row["images"], float(row["recall"])) for row in rows] == [
        ("a", "2", 1.0),
        ("b", "1", 1.0),
        ("c", "1", 1.0),
    ]


def test_a_network_without_mistakes_has_a_picture_that_says_so(tmp_path):
    drawn(tmp_path, convnet((1, 28, 28), 3), (1, 28, 28), ["a", "b", "c"], torch.tensor([0, 1, 2]), wrong=0)
    assert np.asarray(Image.open(tmp_path / "mistakes.png").convert("L")).std() > 5


def test_a_class_without_an_image_is_drawn(tmp_path):
    names = [f"class {number}" for number in range(5)]
    drawn(tmp_path, convnet((1, 28, 28), 5), (1, 28, 28), names, torch.tensor([0, 1, 1, 4]))
    opened(tmp_path / "confusion_matrix.png")


def test_a_dense_network_shows_its_first_weights_and_its_units(tmp_path):
    network = MLP(
        (1, 28, 28),
        3,
        hidden_units=[16],
        activation="relu",
        normalization="none",
        dense_initializer="glorot_uniform",
        conv_dropout=0,
        dense_dropout=0.1,
    )
    drawn(tmp_path, network, (1, 28, 28), ["a", "b", "c"], torch.tensor([0, 1, 2]))
    opened(tmp_path / "filters.png")
    assert (tmp_path / "filters.png").stat().st_size < 100_000, "few units: the others are noise"
    opened(tmp_path / "feature_maps.png")


def test_drawing_leaves_the_network_and_the_random_state_alone(tmp_path):
    network = convnet((1, 28, 28), 3).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    drawn(tmp_path, network, (1, 28, 28), ["a", "b", "c"], torch.tensor([0, 1, 2]))
    assert network.training and all(module.training for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


class TestCurves:
    def test_the_second_view_needs_two_epochs_of_its_own(self, tmp_path):
        short = {name: {epoch: values[epoch] for epoch in (1, 2, 3)} for name, values in HISTORY.items()}
        assert [path.name for path in draw_learning_curves(tmp_path, short, 1, 2)] == ["learning_curves.png"]
        assert len(draw_learning_curves(tmp_path, short, 1, 1)) == 2
        assert len(draw_learning_curves(tmp_path, HISTORY, 1, 0)) == 1

    def test_one_epoch_and_no_validation(self, tmp_path):
        history = {"train/loss": {1: 0.5}, "train/acc": {1: 0.9}, "val/loss": {}, "val/acc": {}}
        draw_learning_curves(tmp_path, history, 1, 2)
        opened(tmp_path / "learning_curves.png")

    @pytest.mark.parametrize(("first", "last"), [(1, 1), (1, 3), (3, 8), (1, 30), (1, 200)])
    def test_only_epochs_that_were_trained_are_named(self, first, last):
        ticks = epoch_ticks(first, last)
        assert 1 <= len(ticks) <= 13 and ticks == sorted(set(ticks))
        assert first <= ticks[0] and ticks[-1] <= last

    def test_a_checkpoint_file_has_no_curves(self, tmp_path):
        assert draw_learning_curves(tmp_path, {}, 1, 2) == []

    def test_the_skipped_epochs_are_gone(self, tmp_path):
        # A first epoch a thousand times as high leaves the whole view flat, and does not touch the second.
        high = {**HISTORY, "train/loss": {**HISTORY["train/loss"], 1: 1000.0}}
        for folder, history in ((tmp_path / "a", HISTORY), (tmp_path / "b", high)):
            draw_learning_curves(folder, history, 5, 2)
        views = ["learning_curves.png", "learning_curves_from_epoch_3.png"]
        same = [(tmp_path / "a" / view).read_bytes() == (tmp_path / "b" / view).read_bytes() for view in views]
        assert same == [False, True]


class TestDiagram:
    @pytest.mark.parametrize(("model", "layers"), [("mlp", 6), ("deep_cnn", 19), ("fashion_cnn", 14)])
    def test_every_layer_is_on_a_picture_of_about_a_thousand_pixels(self, tmp_path, model, layers):
        chosen = settings(f"model={model}", "regularization=dropout")
        network = build_network(chosen.model, chosen.regularization, (1, 28, 28), 10)
        assert len(structure.parts(network, (1, 28, 28))) + 1 == layers
        wide = opened(diagram.draw_network(tmp_path, network, (1, 28, 28))).shape[1]
        assert 500 < wide < 1100

    def test_a_card_tells_kind_name_shape_and_parameters(self, tmp_path, monkeypatch):
        texts = []
        monkeypatch.setattr(diagram, "draw_card", lambda axes, left, top, *card: texts.append(card[:3]))
        diagram.draw_network(tmp_path, convnet((1, 28, 28), 3), (1, 28, 28))
        assert texts[0] == ("input", "", "1 x 28 x 28")
        assert texts[1] == ("Conv2d 3 x 3", "conv1", "4 x 28 x 28\n40")
        assert ("Dropout 0.1", "dropout1", "4 x 14 x 14\n") in texts

    def test_no_program_beside_python_is_needed(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))
        names = ["a", "b", "c"]
        assert drawn(tmp_path, convnet((1, 28, 28), 3), (1, 28, 28), names, torch.tensor([0, 1, 2])) == []
        opened(tmp_path / "network.png")


def test_the_colours_of_the_bars_are_explained(tmp_path, monkeypatch):
    legends = []
    monkeypatch.setattr(Figure, "legend", lambda figure, handles, **_: legends.append(handles))
    images, probabilities = torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.eye(2)
    samples.draw_probabilities(tmp_path / "a.png", images, probabilities, ["a", "b"], ["", ""], [0, 0])
    samples.draw_probabilities(tmp_path / "b.png", images, probabilities, ["a", "b"], ["", ""])
    words = [[patch.get_label() for patch in handles] for handles in legends]
    assert words == [["true class", "predicted, but wrong", "another class"], ["predicted", "another class"]]


class TestLettering:
    def test_latin_needs_no_other_font(self):
        assert fonts.families_for(["T-shirt/top", "Größe", "→"]) == ([fonts.BASE], set())

    def test_characters_without_a_font_are_noted_with_the_package_that_has_them(self, monkeypatch):
        monkeypatch.setattr(fonts, "_installed", tuple)
        with lettering(["cat", "고양이"]) as (names, notes):
            assert names == ["cat", "no. 1"]
        assert len(notes) == 1 and "fonts-nanum" in notes[0] and "고" in notes[0] and "\n" not in notes[0]

    def test_an_installed_font_with_the_characters_is_used(self, monkeypatch):
        # matplotlib ships a font of mathematical letters that DejaVu lacks; its path stands for an installed one.
        from matplotlib import get_data_path

        stix = f"{get_data_path()}/fonts/ttf/STIXSizOneSymReg.ttf"
        monkeypatch.setattr(fonts, "_installed", lambda: (stix,))
        base = fonts.FT2Font(fonts.font_manager.findfont(fonts.BASE))
        only = next(
            chr(code)
            for code in fonts.FT2Font(stix).get_charmap()
            if unicodedata.category(chr(code)) in ("Sm", "Ps", "So") and not base.get_char_index(code)
        )
        families, missing = fonts.families_for([f"a{only}"])
        assert families == [fonts.BASE, "STIXSizeOneSym"]
        assert missing == set()

    def test_long_names_and_line_breaks_are_shortened(self):
        assert shorten("an\nankle boot") == "an ankle boot"
        assert shorten("a" * 30) == "a" * 17 + "…"

    def test_a_hangul_syllable_is_two_letters_wide(self):
        assert [width_of(text) for text in ("cat", "고양이", "e\u0301", "")] == [3, 6, 1, 0]
        assert shorten("고양이" * 5) == "고양이고양이고양…"

    def test_each_picture_says_below_all_else_which_run_it_is_of(self, tmp_path):
        for signature in ("", "mlp-seed0 on digits, run 6d7da294"):
            with lettering(["cat"], signature):
                figure = new_figure(4, 2)
                figure.text(0.1, 0.1, "a title")
                save(figure, tmp_path / f"{len(signature)}.png")
            assert [text.get_text() for text in figure.texts][1:] == ([signature] if signature else [])
        heights = [Image.open(tmp_path / f"{size}.png").height for size in (0, 33)]
        assert heights[0] < heights[1]


def test_the_maps_of_a_deep_network_are_some_of_its_layers_from_first_to_last(tmp_path):
    network = nn.Sequential(*(nn.ReLU() for _ in range(30)), nn.Flatten(), nn.Linear(64, 2))
    image = torch.zeros(1, 8, 8, dtype=torch.uint8)
    path = draw_feature_maps(tmp_path, Scaling.fit("unit", image[None]), network, image, "an image")
    with Image.open(path) as picture:
        assert picture.height < 2000  # 30 rows were 4,200 pixels
