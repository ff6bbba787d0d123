"""Images beyond the memory limit: the same images, decoded once into a file that epochs, runs and processes share."""

import json
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cnnlab.data import load, stored
from cnnlab.data.drawing import measure_frame
from cnnlab.data.pixels import border_brightness
from cnnlab.data.rows import Rows
from cnnlab.data.scaling import channel_statistics
from cnnlab.decoder import MODULE, Order
from cnnlab.decoding import Form
from cnnlab.errors import Incomplete, UsageError
from cnnlab.start import importing
from commands import environment, run, settings, small_disk

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
SMALL = (
    *("dataset=image_folder", "dataset.path=photos", "dataset.root=disk", "dataset.scaling=standard", "batch_size=16"),
    *("model=simple_cnn", "model.filters=[4,8]", "regularization=dropout", "trainer.max_epochs=4"),
    *("callbacks=best_checkpoint", "tracking.system_metrics=false", "tracking.log_model=false"),
    "figures.enabled=false",
)
AFTER_TWO = "outputs/*/*/checkpoints/epoch_02*"


def take_photos(folder: Path, count: int = 20, side: int = 12, mode: str = "RGB") -> Path:
    """Write `count` noisy photos of each of two classes, of several sizes and formats."""
    generator = np.random.default_rng(0)
    for label, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            shape = (side + number % 3, side, *([3] if mode == "RGB" else []))
            pixels = generator.integers(0, 128, shape, dtype=np.uint8) + np.uint8(100 * label)
            Image.fromarray(pixels).save(folder / name / f"{number}.{'jpg' if number % 2 else 'png'}")
    return folder


def section(folder: Path, limit: int = 0, **changes: object):
    given = ("dataset=image_folder", f"dataset.path={folder / 'photos'}", f"dataset.root={folder / 'disk'}")
    return settings(*given, f"dataset.memory_limit={limit}").dataset.model_copy(update=changes)


def files(folder: Path, pattern: str = "*") -> list[str]:
    return sorted(path.name for path in (folder / "disk" / "image_cache").glob(pattern))


def refused(dataset) -> str:
    with pytest.raises(UsageError) as caught:
        load(dataset)
    (line,) = caught.value.problems
    return line


@pytest.fixture
def photos(tmp_path):
    take_photos(tmp_path / "photos")
    return tmp_path


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_they_are_the_images_that_memory_would_hold(tmp_path, mode):
    take_photos(tmp_path / "photos", mode=mode)
    held, mapped = load(section(tmp_path, 1)), load(section(tmp_path))
    assert (held.mapped, mapped.mapped) == (False, True) and len(files(tmp_path, "*.npy")) == 2
    assert torch.equal(mapped.train_images, held.train_images) and torch.equal(mapped.test_images, held.test_images)
    assert torch.equal(mapped.train_labels, held.train_labels) and mapped.train_keys == held.train_keys
    assert (mapped.digest, mapped.training_digest) == (held.digest, held.training_digest)
    index = torch.randperm(len(held.train_labels))[:20]
    rows, copied = Rows(mapped.train_images, index), held.train_images[index]
    assert torch.equal(torch.stack(channel_statistics(rows)), torch.stack(channel_statistics(copied)))
    edges = [copied[..., 0, :], copied[..., -1, :], copied[..., :, 0], copied[..., :, -1]]
    assert border_brightness(rows) == float(torch.cat([edge.flatten() for edge in edges]).median())
    assert measure_frame(rows, 0) == measure_frame(copied, 0)
    line = f"memory: the images take 1 MiB, beyond dataset.memory_limit=0; they are read from files in {tmp_path}/disk/"
    assert line in mapped.layout and "memory" not in held.layout


def test_the_brightness_of_borders_is_their_median():
    for seed in range(30):
        images = torch.randint(0, 9, (3, 1, 3, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
        edges = torch.cat([images[..., side, :] for side in (0, 2)] + [images[..., side] for side in (0, 2)])
        assert border_brightness(images) == float(edges.flatten().median())


def history(folder: Path) -> list[tuple[str, int, float]]:
    """Return the losses and accuracies of a folder's runs."""
    measured = "select key, step, value from metrics where key like '%/loss' or key like '%/acc'"
    with sqlite3.connect(folder / "mlruns" / "mlflow.db") as database:
        return database.execute(f"{measured} order by key, step, value").fetchall()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = folder.glob("outputs/*/*/checkpoints/epoch_*")
    return torch.load(file, weights_only=True)["state_dict"]


def trained(folder: Path, *overrides: str, **stop: object) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    if not (folder / "photos").exists():
        take_photos(folder / "photos", 60)
    done = run(folder, "train.py", *SMALL, *overrides, **stop)
    assert stop or done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_training_killed_resumed_and_evaluated_is_what_it_is_in_memory(tmp_path):
    one, other = tmp_path / "memory", tmp_path / "file"
    trained(one)
    trained(other, "dataset.memory_limit=0", stop=(signal.SIGKILL, AFTER_TWO, 0.0))
    (other / "disk" / "image_cache" / "kept").touch()
    said = run(other, "train.py", "resume=last").stdout
    assert "beyond dataset.memory_limit=0" in said and "decoding" not in said
    assert history(other) == history(one) and len(history(one)) > 20
    assert repr(weights(other)) == repr(weights(one))
    here = ("run=last", "split=val", "figures.enabled=false", "dataset=image_folder", "dataset.path=photos")
    limits = {one: 2048, other: 0}
    said = [run(folder, "evaluate.py", *here, f"dataset.memory_limit={limit}") for folder, limit in limits.items()]
    assert "val/acc" in said[0].stdout
    assert said[1].stdout.partition("class")[2] == said[0].stdout.partition("class")[2]
    assert not (one / "disk").exists()
    done = run(one, "evaluate.py", *here, "dataset.memory_limit=much")
    assert done.returncode == 2
    assert "dataset.memory_limit='much' is not allowed; dataset.memory_limit takes a whole" in done.stderr


@pytest.mark.slow
def test_two_processes_of_a_training_read_the_same_file(tmp_path):
    parts = ("trainer.accelerator=cpu", "trainer.devices=2")
    for name, limit in (("memory", 1), ("file", 0)):
        trained(tmp_path / name, *parts, f"dataset.memory_limit={limit}")
    assert history(tmp_path / "file") == history(tmp_path / "memory")
    assert repr(weights(tmp_path / "file")) == repr(weights(tmp_path / "memory"))


@pytest.mark.slow
def test_a_sweeps_workers_read_the_same_file(tmp_path):
    values = {}
    for name, limit in (("memory", 1), ("file", 0)):
        (tmp_path / name).mkdir()
        take_photos(tmp_path / name / "photos", 60)
        space = ("search=none", '+search.optimizer.lr="choice(0.001, 0.01)"', "sampler=grid")
        parts = (*space, "sweep.n_workers=2", "sweep.n_trials=2", "sweep.final_seeds=0")
        done = run(tmp_path / name, "sweep.py", *SMALL, *parts, f"dataset.memory_limit={limit}")
        assert done.returncode == 0, done.stdout + done.stderr
        values[name] = history(tmp_path / name)
    assert len(files(tmp_path / "file", "*.npy")) == 2 and values["file"] == values["memory"]


READING = """
import json, logging, sys
from cnnlab.data.folder import load
from cnnlab.settings.dataset import ImageFolder
from cnnlab.settings.read import read

logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s", force=True)
print(load(read(ImageFolder, json.loads(sys.argv[1]), "dataset.")).digest)
"""


def reader(folder: Path) -> subprocess.Popen[str]:
    """Start a process that reads the photos."""
    given = json.dumps(section(folder).plain())
    variables = environment(PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    return subprocess.Popen([sys.executable, "-c", READING, given], env=variables, stdout=subprocess.PIPE, text=True)


def test_two_at_once_make_one_file_and_a_killed_one_leaves_nothing_wrong(tmp_path):
    take_photos(tmp_path / "photos", 300, 200)
    killed = reader(tmp_path)
    while not files(tmp_path, "*.part"):
        assert killed.poll() is None
        time.sleep(0.002)
    killed.kill()
    killed.wait()
    assert files(tmp_path, "*.npy") == []
    readers = [reader(tmp_path) for _ in range(2)]
    said = [process.communicate()[0].splitlines() for process in readers]
    assert sorted(len(lines) for lines in said) == [1, 3]  # one has decoded, the training images and those of the test
    assert {lines[-1] for lines in said} == {load(section(tmp_path, 1000)).digest}
    assert len(files(tmp_path, "*.npy")) == 2 and files(tmp_path, "*.part") == []


def test_a_process_that_decodes_ends_with_the_one_that_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "endless.png")
    (tmp_path / "part").touch()
    order = Order(str(tmp_path / "part"), 0, [(0, str(tmp_path / "endless.png"))], Form(1, (8, 8), "crop", None))
    variables = environment() | importing()
    process = subprocess.Popen([sys.executable, "-m", MODULE], stdin=subprocess.PIPE, env=variables)
    process.stdin.write(order.written())
    process.stdin.close()
    assert process.wait(timeout=60) == 1


def test_the_file_is_found_again_and_photos_that_changed_make_another(photos, caplog):
    caplog.set_level(logging.INFO)
    first = load(section(photos)).digest
    assert "decoding 3" in caplog.text and "images, once: 1 MiB in" in caplog.text
    caplog.clear()
    shutil.move(photos / "photos" / "cat" / "3.jpg", photos / "photos" / "cat" / "30.jpg")  # sorted as before
    assert load(section(photos)).digest == first and caplog.text == ""
    assert load(section(photos, max_pixels=10**6)).digest == first and "decoding" in caplog.text
    other = {"image_size": 9, "channels": 1, "resize": "pad"}
    assert load(section(photos, **other)).digest == load(section(photos, 1, **other)).digest
    caplog.clear()
    Image.new("RGB", (12, 12), (1, 2, 3)).save(photos / "photos" / "cat" / "4.png")
    assert load(section(photos)).digest == load(section(photos, 1)).digest != first and "decoding" in caplog.text


def test_a_file_that_was_damaged_is_made_again(photos):
    digest = load(section(photos)).digest
    for file in (photos / "disk" / "image_cache").glob("*.npy"):
        os.truncate(file, 500)
    assert load(section(photos)).digest == digest


def test_damaged_photos_are_told_as_in_memory_and_leave_no_file(photos):
    for name in ("cat/1.jpg", "dog/2.png"):
        (photos / "photos" / name).write_bytes((photos / "photos" / name).read_bytes()[:40])
    assert refused(section(photos)) == refused(section(photos, 1))
    assert "2 unreadable images: " in refused(section(photos)) and "cat/1.jpg (" in refused(section(photos))
    assert files(photos, "*.npy") == files(photos, "*.part") == []


def test_beside_other_problems_nothing_is_decoded(tmp_path):
    take_photos(tmp_path / "photos" / "train")
    take_photos(tmp_path / "photos" / "test")
    (tmp_path / "photos" / "test" / "dog").rename(tmp_path / "photos" / "test" / "dgo")
    with pytest.raises(UsageError, match="both need the same class folders"):
        load(section(tmp_path))
    assert files(tmp_path) == []


@NEEDS_ROOT
def test_a_disk_without_room_is_told_before_anything_is_decoded(photos, monkeypatch):
    take_photos(photos / "more", 900)
    for name in ("cat", "dog"):
        shutil.move(photos / "more" / name, photos / "photos" / name / "more")
    (photos / "disk").mkdir()
    said = f"dataset.path={photos}/photos: its images take 1 MiB decoded, beyond dataset.memory_limit=0, and "
    with small_disk(photos / "disk", "400k"):
        there = f"{photos}/disk/image_cache has 1 MiB free; set dataset.root to a folder on a larger disk"
        assert refused(section(photos)) == f"{said}{there}, or raise dataset.memory_limit"
        usage = shutil.disk_usage(photos)
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)  # somebody else fills it meanwhile
        monkeypatch.setattr(stored, "_decode", lambda *order: pytest.fail("it decodes"))
        assert refused(section(photos)).startswith(said)
        assert files(photos, "*.npy") == files(photos, "*.part") == []


def test_a_folder_that_cannot_be_written_is_told(photos):
    (photos / "disk").mkdir()
    (photos / "disk" / "image_cache").touch()
    said = refused(section(photos))
    assert f"{photos}/disk/image_cache: File exists; set dataset.root to a folder that can be written, or raise" in said


def test_a_process_that_is_lost_is_told(photos, monkeypatch):
    monkeypatch.setattr(stored, "MODULE", "cnnlab.absent")
    with pytest.raises(Incomplete, match=r"a process that decodes images \(pid \d+\) ended with exit code 1"):
        load(section(photos))
    assert files(photos, "*.npy") == files(photos, "*.part") == []
