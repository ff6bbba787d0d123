"""A trained classifier asked about images from anywhere."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

import torch
from rich import box
from rich.table import Table
from torch import Tensor

from cnnlab import process
from cnnlab.checkpoint import Saved, asked_of, find_saved
from cnnlab.console import console
from cnnlab.data.drawing import CLEARLY, LOOKED_AT, MNIST, Frame, find_drawing, framed, stands_well
from cnnlab.data.pixels import border_brightness, read_image
from cnnlab.decoding import read_page, readable_extensions
from cnnlab.errors import Incomplete, UsageError, is_text, one_line, printable
from cnnlab.figures.canvas import lettering
from cnnlab.figures.samples import draw_probabilities
from cnnlab.job import Job
from cnnlab.settings.dataset import ImageFolder
from cnnlab.settings.trained import Prediction

MIDDLE = 127.5
PER_PICTURE = 10
NAMED = 3  # classes named beside the most probable one in the table


@dataclass(frozen=True, eq=False)
class Look:
    """One image as the network sees it, uint8 [C, H, W], and what was done to it; `empty`: no drawing was found."""

    image: Tensor
    inverted: bool
    centered: bool = False
    empty: bool = False


@dataclass(frozen=True)
class Answers:
    """What a classifier says of images: probabilities [classes] of each file, in the order of the class names."""

    class_names: tuple[str, ...]
    probabilities: Mapping[Path, Tensor]


def predict(job: Job) -> Answers:
    """Print and draw what the classifier of `run` or `checkpoint` says about `image`, a file or a folder of files.

    Pictures go to `job.folder`, and of a folder of images a table, predictions.csv. Raises UsageError for images and
    classifiers that are not there, and Incomplete, when all else is done, for files that cannot be read.
    """
    process.begin()
    settings = asked_of(Prediction, job)
    paths = image_files(settings.image)
    saved = find_saved(settings)
    frame = frame_of(saved, settings.center)
    seen, failures = look_at_all(paths, saved, settings, frame)
    found = {path: look.image for path, look in seen.items()}
    images = torch.stack(list(found.values()))
    with torch.inference_mode():
        probabilities = torch.cat([saved.classifier(part).softmax(dim=1) for part in images.split(1000)])

    console.print(probability_table(list(found), probabilities, saved.class_names))
    tell_what_was_done(seen, settings)
    source = f"run {saved.run_id}" if saved.run_id else str(saved.checkpoint)
    for picture in draw(job.folder, list(found), images, probabilities, saved.class_names, source):
        console.print(f"picture: {picture}", soft_wrap=True)
    if len(paths) > 1:
        console.print(
            f"table: {write_table(job.folder, list(found), probabilities, saved.class_names)}", soft_wrap=True
        )
    if failures:
        raise Incomplete(*failures)
    return Answers(saved.class_names, dict(zip(found, probabilities, strict=True)))


def write_table(folder: Path, paths: list[Path], probabilities: Tensor, class_names: tuple[str, ...]) -> Path:
    """Write one line an image: its path, the most probable class, and the probability of every class."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "predictions.csv"
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "class", "probability", *class_names])
        for path, row in zip(paths, probabilities.tolist(), strict=True):
            best = max(range(len(row)), key=row.__getitem__)
            writer.writerow([path, class_names[best], *(f"{value:.6f}" for value in (row[best], *row))])
    return target


def image_files(image: object) -> list[Path]:
    """Return the file, or the image files of the folder by name; raises UsageError where there is none."""
    if image is None:
        raise UsageError("image=null: set image to an image file, or to a folder of them")
    path = Path(str(image)).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        siblings = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
        near = get_close_matches(path.name, siblings, n=1)
        raise UsageError(
            f"image={path} does not exist" + (f"; did you mean '{path.parent / near[0]}'?" if near else "")
        )
    extensions = readable_extensions()
    files = sorted(item for item in path.iterdir() if item.is_file() and item.suffix.lower() in extensions)
    if not files:
        raise UsageError(f"image={path} holds no images; read are {', '.join(sorted(extensions)[:12])}, ...")
    return files


def look_at_all(
    paths: list[Path], saved: Saved, settings: Prediction, frame: Frame | None
) -> tuple[dict[Path, Look], list[str]]:
    """Return the images as the network takes them, and a line for each that cannot be read."""
    images, failures = {}, []
    for path in paths:
        if not is_text(str(path)):
            failures.append(f"image={printable(str(path))} cannot be read: its name is no UTF-8; rename it")
            continue
        try:
            images[path] = look_at(path, saved, settings, frame)
        except Exception as error:  # a damaged file can raise almost anything in a decoder
            failures.append(f"image={path} cannot be read: {one_line(error)}")
    if not images:
        raise UsageError(*failures)
    return images, failures


def look_at(path: Path, saved: Saved, settings: Prediction, frame: Frame | None) -> Look:
    """Return one image as the network takes it; raises Pillow's own errors for a file that cannot be read.

    With a `frame`, a drawing on a page is put into it. A file of the network's own size is taken for such a drawing as
    it is, and with center=auto also one that stands as the training images' do.
    """
    channels, height, width = saved.input_shape
    dataset, border = saved.description.dataset, saved.description.border
    resize = dataset.resize if isinstance(dataset, ImageFolder) else "stretch"
    image = read_image(path, channels, (height, width), resize, max_pixels=settings.max_pixels)
    invert = must_invert(image, border) if settings.invert == "auto" else settings.invert
    look = Look(255 - image if invert else image, inverted=invert)
    if frame is None or border is None:
        return look
    page = read_page(path, LOOKED_AT, max_pixels=settings.max_pixels)
    if settings.center == "auto" and (page.shape == (height, width) or stands_well(look.image, border, frame)):
        return look
    # Ink is light where the classifier knows it so, and dark if the image is to be inverted; or the other way round.
    light = border < MIDDLE
    drawing = find_drawing(page, None if settings.invert == "auto" else settings.invert == light)
    if drawing is None:
        return replace(look, empty=True)
    return Look(framed(drawing, (height, width), frame, border), inverted=drawing.dark == light, centered=True)


def frame_of(saved: Saved, center: bool | Literal["auto"]) -> Frame | None:
    """Return how drawings are to stand in their images; None where the images are to be taken as they are.

    Raises UsageError where drawings cannot be told from their ground.
    """
    described = saved.description.frame
    frame = Frame(*described) if described else None
    if center == "auto":
        return frame if frame and frame.normalized and saved.input_shape[0] == 1 else None
    if not center:
        return None
    border = saved.description.border
    if saved.input_shape[0] != 1 or border is None or min(border, 255 - border) > CLEARLY:
        raise UsageError("center=true needs a classifier of grey drawings on a plain ground; this one knows others")
    return frame or MNIST


def tell_what_was_done(seen: Mapping[Path, Look], settings: Prediction) -> None:
    """Print how many images were inverted and centred, and which pages are empty."""
    inverted, centered = sum(look.inverted for look in seen.values()), sum(look.centered for look in seen.values())
    if inverted:
        given = f"invert={str(settings.invert).lower()}"
        console.print(f"read as dark on light and inverted: {inverted} of {len(seen)} ({given})")
    if centered:
        given = f"center={str(settings.center).lower()}"
        console.print(f"drawings found on their page, scaled and centred: {centered} of {len(seen)} ({given})")
    for path in (path for path, look in seen.items() if look.empty):
        console.print(f"{path.name}: no drawing found on it, the answer means nothing", soft_wrap=True, markup=False)


def must_invert(image: Tensor, border: float | None) -> bool:
    """Return whether an image is light around its edges where all training images were dark, or the other way round.

    `border` is the brightness of the training images' edges, 0..255. Photographs have neither background, so a
    classifier trained on them inverts nothing.
    """
    if border is None or min(border, 255 - border) > CLEARLY:
        return False
    return (border_brightness(image[None]) > MIDDLE) != (border > MIDDLE)


def probability_table(paths: list[Path], probabilities: Tensor, class_names: tuple[str, ...]) -> Table:
    """Return one row an image: the most probable class with its probability, and the next ones."""
    table = Table("image", "class", box=box.HORIZONTALS, pad_edge=False, show_edge=False)
    table.add_column("probability", justify="right")
    table.add_column("then")
    for path, row in zip(paths, probabilities, strict=True):
        order = row.argsort(descending=True, stable=True)[: NAMED + 1].tolist()
        others = ", ".join(f"{class_names[label]} {row[label]:.1%}" for label in order[1:])
        table.add_row(path.name, class_names[order[0]], f"{row[order[0]]:.1%}", others)
    return table


def draw(
    folder: Path, paths: list[Path], images: Tensor, probabilities: Tensor, class_names: tuple[str, ...], source: str
) -> list[Path]:
    """Draw the images, as the network saw them, beside their probabilities, ten to a picture with its `source`."""
    files = [path.name for path in paths]
    pictures = []
    with lettering([*class_names, *files], source) as (texts, notes):
        names, titles = texts[: len(class_names)], texts[len(class_names) :]
        for start in range(0, len(paths), PER_PICTURE):
            part = slice(start, start + PER_PICTURE)
            number = f"_{start // PER_PICTURE + 1:03d}" if len(paths) > PER_PICTURE else ""
            target = folder / f"predictions{number}.png"
            pictures.append(draw_probabilities(target, images[part], probabilities[part], names, titles[part]))
    for note in notes:
        console.print(note, soft_wrap=True)
    return pictures
