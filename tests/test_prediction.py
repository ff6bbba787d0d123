"""predict.py: images from anywhere, light or dark, grey or colour, of any size."""

from __future__ import annotations

import csv
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from cnnlab.checkpoint import load_saved
from cnnlab.data.drawing import MNIST, Frame
from cnnlab.data.pixels import border_brightness
from cnnlab.errors import UsageError
from cnnlab.prediction import frame_of, image_files, look_at, must_invert
from commands import loaded, run
from drawings import PAPERS, page


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    """Test digits as files: as they are, and large, in colour, as dark ink on white paper; and a broken one."""
    folder = tmp_path_factory.mktemp("images")
    data = loaded("digits")
    for digit in range(3):
        position = int((data.test_labels == digit).nonzero()[0])
        image = Image.fromarray(data.test_images[position, 0].numpy())
        image.save(folder / f"{digit}_light.png")
        paper = Image.fromarray(255 - np.asarray(image)).convert("RGB").resize((113, 90))
        paper.save(folder / f"{digit}_paper.jpg")
    (folder / "broken.png").write_text("nothing")
    (folder / "notes.txt").write_text("not an image")
    return folder


def table(output: str) -> dict[str, tuple[str, float]]:
    """Return file name to class and probability, as printed."""
    rows = [line.split() for line in output.splitlines() if "_" in line.split(" ")[0] and "%" in line]
    return {row[0]: (row[1], float(row[2].rstrip("%")) / 100) for row in rows}


def test_a_folder_is_read_whole_and_drawn(trained, folder):
    done = run(trained.folder, "predict.py", "run=best", f"image={folder}", "hydra.run.dir=predicted")
    assert done.returncode == 1, "one of the files could not be read"
    found = table(done.stdout)
    assert sorted(found) == [f"{digit}_{kind}" for digit in range(3) for kind in ("light.png", "paper.jpg")]
    for digit in range(3):
        light, paper = found[f"{digit}_light.png"], found[f"{digit}_paper.jpg"]
        assert paper[0] == light[0] and paper[1] == pytest.approx(light[1], abs=0.15), "inverted, it is the same digit"
    assert "inverted: 3 of 6" in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: image=") and "broken.png cannot be read" in line
    rows = list(csv.DictReader((trained.folder / "predicted" / "predictions.csv").open(encoding="utf-8")))
    assert {Path(row["image"]).name: row["class"] for row in rows} == {name: found[name][0] for name in found}
    for row in rows:
        assert sum(float(row[str(digit)]) for digit in range(10)) == pytest.approx(1, abs=1e-4)
    picture = np.asarray(Image.open(trained.folder / "predicted" / "predictions.png").convert("L"))
    assert min(picture.shape) > 300 and picture.std() > 5


@pytest.mark.parametrize(
    ("border", "paper", "inverted"),
    [
        (0.0, True, True),  # trained on light ink on black
        (0.0, False, False),
        (255.0, True, False),  # trained on dark ink on white
        (255.0, False, True),
        (120.0, True, False),  # trained on photographs
        (None, True, False),  # a checkpoint that does not say
    ],
)
def test_only_the_other_background_is_inverted(border, paper, inverted):
    image = torch.zeros(1, 8, 8, dtype=torch.uint8)
    image[:, 2:6, 2:6] = 250
    assert must_invert(255 - image if paper else image, border) is inverted


def test_a_mistake_is_one_line_and_exit_code_2(trained, folder):
    done = run(trained.folder, "predict.py", "run=best", f"image={folder}/broken.png", "invert=maybe")
    assert done.returncode == 2
    assert done.stderr == "error: invert='maybe' is not allowed; invert takes true or false, or auto\n"


@pytest.mark.parametrize(("image", "words"), [(None, "image=null"), ("nome.png", "did you mean '.*none.png'")])
def test_an_image_that_is_not_there(tmp_path, image, words):
    (tmp_path / "none.png").touch()
    with pytest.raises(UsageError, match=words):
        image_files(image and tmp_path / image)


def test_a_folder_without_images(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match="holds no images"):
        image_files(tmp_path)


def test_the_border_is_the_median_of_the_outermost_pixels():
    image = torch.full((1, 1, 4, 4), 9, dtype=torch.uint8)
    image[..., 1:3, 1:3] = 200
    image[..., 0, 0] = 255
    assert border_brightness(image) == 9


class TestPages:
    @pytest.fixture(scope="class")
    def pages(self, tmp_path_factory):
        """Large pages with a small test digit each, and an empty one."""
        folder = tmp_path_factory.mktemp("pages")
        data = loaded("digits")
        for place in range(20):
            paper = list(PAPERS)[place % len(PAPERS)]
            corner = (17 * place, 390 - 19 * place)
            drawn = page(paper, data.test_images[place, 0].numpy(), 60 + place, corner)
            drawn.save(folder / f"{place:02d}_page.{'png' if place % 2 else 'jpg'}")
            Image.fromarray(data.test_images[place, 0].numpy()).save(folder / f"{place:02d}_tight.png")
        page("grey, with grain", None).save(folder / "x_empty.png")
        return folder

    @pytest.mark.slow
    def test_a_small_drawing_is_told_as_the_digit_it_is(self, trained, pages):
        agreeing = {}
        for center in ("auto", "false"):
            done = run(trained.folder, "predict.py", "run=best", f"image={pages}", f"center={center}")
            assert done.returncode == 0, done.stderr
            found = table(done.stdout)
            tight = [found[f"{place:02d}_tight.png"][0] for place in range(20)]
            large = [found[f"{place:02d}_page.{'png' if place % 2 else 'jpg'}"][0] for place in range(20)]
            agreeing[center] = sum(one == other for one, other in zip(tight, large, strict=True))
            said = "drawings found on their page, scaled and centred: 20 of 41 (center=auto)"
            assert (said in done.stdout) is (center == "auto")
            assert ("x_empty.png: no drawing found on it" in done.stdout) is (center == "auto")
        assert agreeing["auto"] >= 13 and agreeing["false"] <= 6, "three epochs have taught it not too much"

    def test_a_tight_image_is_not_touched(self, trained, pages):
        saved, settings = self.saved(trained), SimpleNamespace(invert="auto", center="auto", max_pixels=10**7)
        for path in sorted(pages.glob("*_tight.png")):
            look = look_at(path, saved, settings, frame_of(saved, "auto"))
            assert not look.centered and not look.inverted
            assert np.array_equal(look.image[0].numpy(), np.asarray(Image.open(path)))

    def test_what_is_said_about_the_ink_is_believed(self, trained, pages):
        saved = self.saved(trained)
        dark, light = pages / "01_page.png", pages / "03_page.png"
        for path, invert, found in ((dark, True, True), (light, False, True), (dark, False, False)):
            look = look_at(
                path, saved, SimpleNamespace(invert=invert, center="auto", max_pixels=10**7), frame_of(saved, "auto")
            )
            assert look.centered is found and look.empty is not found

    def test_photos_are_never_centred(self, trained):
        saved = self.saved(trained)
        photos = replace(saved, description=saved.description.model_copy(update={"border": 120.0, "frame": None}))
        assert frame_of(photos, "auto") is None
        with pytest.raises(UsageError, match="center=true needs a classifier of grey drawings"):
            frame_of(photos, True)

    def test_only_drawings_of_one_size_are_centred_unasked(self, trained):
        saved = self.saved(trained)
        clothes = replace(saved, description=saved.description.model_copy(update={"frame": (0.8, 0.9, 1.0)}))
        assert frame_of(clothes, "auto") is None and frame_of(clothes, True) == Frame(0.8, 0.9, 1.0)
        older = replace(saved, description=saved.description.model_copy(update={"frame": None}))
        assert frame_of(older, "auto") is None and frame_of(older, True) == MNIST

    @staticmethod
    def saved(trained):
        (checkpoint,) = trained.folder.glob("outputs/**/epoch_*.ckpt")
        return load_saved(checkpoint)


def test_images_of_too_many_pixels_and_names_that_are_no_text_are_named_beside_the_others(trained, tmp_path):
    Image.new("1", (20_000, 5_000)).save(tmp_path / "bomb.png")
    Image.new("L", (8, 8)).save(tmp_path / os.fsdecode(b"\xff.png"))
    Image.new("L", (8, 8)).save(tmp_path / "good.png")
    done = run(trained.folder, "predict.py", "run=best", f"image={tmp_path}", "hydra.run.dir=hostile")
    assert done.returncode == 1 and "good.png" in done.stdout
    assert sorted(done.stderr.splitlines()) == [
        f"error: image={tmp_path}/\\xff.png cannot be read: its name is no UTF-8; rename it",
        f"error: image={tmp_path}/bomb.png cannot be read: 20000x5000 are more pixels than max_pixels=50000000",
    ]
