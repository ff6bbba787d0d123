"""A drawing is found on its page, whatever the paper, and stands in its frame as the training images do."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
import torch
from PIL import Image

from cnnlab.data.drawing import MNIST, find_drawing, framed, measure_frame, stands_well
from cnnlab.errors import UsageError
from commands import loaded
from drawings import PAPERS, page


def ring() -> np.ndarray:
    """Return a light ring on black, 28x28 pixels, its outer edge 20 wide."""
    down, across = np.mgrid[:28, :28] - 13.5
    return ((np.hypot(down, across) < 10) & (np.hypot(down, across) > 7)).astype(np.uint8) * 255


def seen(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=float)


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize(("size", "corner"), [(40, (0, 0)), (100, (310, 400)), (400, (10, 60))])
def test_a_ring_of_any_size_anywhere_becomes_the_same_ring(paper, size, corner):
    drawing = find_drawing(seen(page(paper, ring(), size, corner)))
    assert drawing is not None and drawing.dark is (paper != "light on dark")
    image = framed(drawing, (28, 28), MNIST, border=0)
    assert image.shape == (1, 28, 28) and image.dtype == torch.uint8
    rows, columns = (np.flatnonzero((image[0].numpy() > 127).any(axis=axis)) for axis in (1, 0))
    for places in (rows, columns):
        assert abs(np.ptp(places) + 1 - 20) <= 1 and abs(places.mean() - 13.5) <= 1
    assert image.max() == 255 and image[0, 12:16, 12:16].max() < 60 and image[0, 0].max() == 0


def test_dust_is_no_part_of_the_drawing():
    clean, dusty = (find_drawing(seen(page("grey, with grain", ring(), 100, specks=count))) for count in (0, 30))
    assert clean is not None and dusty is not None
    assert np.abs(np.subtract(clean.ink.shape, dusty.ink.shape)).max() <= 3


def test_a_blot_beside_a_large_drawing_and_dust_within_it_are_left_out():
    levels = seen(page("white", ring(), 300, (60, 30)))
    clean = find_drawing(levels)
    levels[300:303, 470:484] = 0  # longer than dust, and little beside the ring
    levels[209:211, 179:181] = 0
    found = find_drawing(levels)
    assert clean is not None and found is not None and found.ink.shape == clean.ink.shape
    middle = np.array(found.ink.shape) // 2
    assert found.ink[middle[0] - 9 : middle[0] + 9, middle[1] - 9 : middle[1] + 9].max() == 0


@pytest.mark.parametrize("paper", PAPERS)
def test_an_empty_page_has_no_drawing(paper):
    assert find_drawing(seen(page(paper, None))) is None
    assert find_drawing(seen(page(paper, None, specks=3))) is None


def test_a_faint_streak_with_dots_on_it_is_no_drawing():
    levels = np.full((420, 520), 255.0)
    levels[200:203, 100:300] = 230
    levels[200:203, 100:300:9] = 0
    assert find_drawing(levels) is None


def test_a_network_that_knows_dark_on_light_gets_it_so():
    drawing = find_drawing(seen(page("light on dark", ring())))
    assert drawing is not None
    light, dark = (framed(drawing, (28, 28), MNIST, border=border) for border in (255, 0))
    assert torch.equal(light, 255 - dark)


def test_the_frame_of_the_digits_is_all_of_the_image_and_photos_have_none():
    images = loaded("digits").train_images
    frame = measure_frame(images, 0)
    assert frame is not None and frame.normalized and frame.middle == 1
    assert measure_frame(255 - images, 255) == frame
    assert measure_frame(images, 120) is None
    assert measure_frame(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), 0) is None


def test_what_stands_as_in_training_is_told_from_what_does_not():
    image = torch.from_numpy(ring())[None]
    assert stands_well(image, 0, MNIST)
    assert not stands_well(image.roll(6, dims=2), 0, MNIST), "not in the middle"
    assert not stands_well(image, 0, MNIST.__class__(1, 1, 1)), "too small"
    assert not stands_well(image // 2 + 100, 0, MNIST), "on grey"
    assert not stands_well(torch.zeros_like(image), 0, MNIST), "empty"


def published(name: str):
    try:
        return loaded(name, download=False)
    except UsageError:
        pytest.skip(f"{name} is not there")


def test_clothes_were_not_scaled_to_one_size_and_handwriting_was():
    frame = measure_frame(published("mnist").train_images, 0)
    assert frame is not None and astuple(frame) == pytest.approx(astuple(MNIST))
    clothes = measure_frame(published("fashion_mnist").train_images, 0)
    assert clothes is not None and not clothes.normalized


def test_handwriting_found_on_a_page_is_the_image_it_was():
    images = published("mnist").test_images[:6, 0].numpy()
    for paper in PAPERS:
        off = []
        for image in images:
            drawing = find_drawing(seen(page(paper, image, 140)))
            assert drawing is not None
            off.append(np.abs(framed(drawing, (28, 28), MNIST, 0)[0].numpy() - image.astype(float)).mean())
        assert np.mean(off) < 12, "levels, of 255; a shift by one pixel is 18"
