"""dataset.sealed=true: training and validation without a look at the test split, until somebody unseals it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import mlflow
import pytest
import torch
from PIL import Image

from cnnlab.checkpoint import upgraded
from cnnlab.data import files, load
from cnnlab.errors import UsageError
from cnnlab.settings.read import read
from cnnlab.settings.trained import Evaluation
from commands import composed, loaded, run, settings
from data_makers import make_cifar10, make_mnist_like, patch

SMALL = ("model=dnn", "trainer.max_epochs=2", "tracking.log_model=false")
QUIET = "figures.enabled=false"


def only_run(folder: Path):
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    (found,) = client.search_runs([item.experiment_id for item in client.search_experiments()])
    return found


class TestData:
    def test_archives_of_the_test_images_are_not_read(self, tmp_path, monkeypatch):
        patch(monkeypatch, "mnist", make_mnist_like(tmp_path, "mnist"))
        patch(monkeypatch, "cifar10", make_cifar10(tmp_path, extracted=True))
        for file in (*tmp_path.glob("MNIST/raw/t10k*"), tmp_path / "cifar-10-batches-py" / "test_batch"):
            file.unlink()
        for name in ("mnist", "cifar10"):
            data = loaded(name, root=str(tmp_path), download=False, sealed=True)
            assert (data.sealed, len(data.train_labels), len(data.test_labels)) == (True, 60, 0)
            with pytest.raises(UsageError, match="is missing"):
                loaded(name, root=str(tmp_path), download=False)

    def test_the_test_file_is_not_taken_out_of_a_whole_archive(self, tmp_path, monkeypatch):
        patch(monkeypatch, "cifar10", make_cifar10(tmp_path))
        monkeypatch.setattr("torchvision.datasets.CIFAR10.test_list", "not looked at")
        assert loaded("cifar10", root=str(tmp_path), download=False, sealed=True).test_images.shape == (0, 3, 32, 32)

    def test_the_bundled_digits_train_on_the_same_images(self):
        sealed, plain = loaded("digits", sealed=True), loaded("digits")
        assert torch.equal(sealed.train_images, plain.train_images) and len(sealed.test_images) == 0

    def test_a_test_folder_is_not_entered(self, tmp_path):
        photos(tmp_path / "train")
        (tmp_path / "test").mkdir()
        (tmp_path / "test" / "cat.png").write_text("no class folder and no picture")
        data = load(folder(tmp_path, sealed=True))
        assert (len(data.train_labels), len(data.test_labels), data.test_keys) == (24, 0, ())
        assert "test from test/ (sealed)" in data.layout

    def test_held_out_photos_are_told_by_their_content_and_not_read(self, tmp_path, monkeypatch):
        photos(tmp_path)
        plain = load(folder(tmp_path))
        opened = []
        read_pixels = files.read_pixels

        def read(path, *rest):
            opened.append(path)
            return read_pixels(path, *rest)

        monkeypatch.setattr(files, "read_pixels", read)
        sealed = load(folder(tmp_path, sealed=True))
        assert torch.equal(sealed.train_images, plain.train_images)
        assert (len(sealed.test_labels), sealed.test_keys) == (0, plain.test_keys)
        assert len(opened) == len(plain.train_labels) < 24

    def test_the_test_photos_do_not_decide_how_the_others_are_read(self, tmp_path):
        photos(tmp_path / "train")
        photos(tmp_path / "test", side=60)
        shapes = {load(folder(tmp_path, sealed=sealed, image_size="auto")).input_shape for sealed in (True, False)}
        assert shapes == {(1, 12, 12)}

    def test_own_code_is_told_and_its_test_split_is_not_looked_at(self, tmp_path, monkeypatch):
        (tmp_path / "teacher.py").write_text(
            "import torch\n"
            "def images(sealed):\n"
            "    part = torch.zeros(4, 5, 5, dtype=torch.uint8), torch.tensor([0, 1, 0, 1])\n"
            "    return part, 'kept at home' if sealed else part\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        made = settings("dataset=own", "dataset.name=theirs", "dataset._target_=teacher.images", "dataset.sealed=true")
        data = load(made.dataset)
        assert (len(data.train_labels), len(data.test_labels), data.sealed) == (4, 0, True)


class TestSettings:
    def test_sealed_or_not_the_settings_are_the_same(self):
        assert settings("dataset.sealed=true").digest() == settings().digest() != settings("batch_size=7").digest()

    def test_a_seal_needs_validation_unless_the_checkpoint_needs_none(self):
        with pytest.raises(UsageError, match=r"val/loss' needs a validation split, .*callbacks=last_checkpoint"):
            settings("dataset.sealed=true", "dataset.validation.fraction=0")
        settings("dataset.sealed=true", "dataset.validation.fraction=0", "callbacks=last_checkpoint")

    def test_unseal_belongs_to_the_test_split(self):
        with pytest.raises(UsageError, match=r"unseal=true opens the test split, but split='val'"):
            read(Evaluation, composed("run=best", "unseal=true", "split=val", config_name="evaluate"))

    def test_checkpoints_from_before_there_were_seals_are_read(self):
        assert upgraded({"format": 2, "dataset": {"name": "digits"}})["dataset"]["sealed"] is False


def test_a_sealed_run_has_no_test_until_it_is_unsealed(tmp_path):
    done = run(tmp_path, "train.py", *SMALL, "dataset.sealed=true", "figures.diagram=false")
    assert done.returncode == 0, done.stderr
    sealed = only_run(tmp_path)
    assert "digits: 1293 training, 144 validation images; the test split is sealed" in done.stdout
    assert f"evaluate.py run={sealed.info.run_id} unseal=true" in done.stdout
    assert not [name for name in sealed.data.metrics if name.startswith("test/")]
    assert sealed.data.tags["test.sealed"] == "true"
    assert re.search(rf"val/acc +{sealed.data.metrics['best/val/acc']:.4f}\n", done.stdout)
    (table,) = tmp_path.glob("outputs/*/*/figures/classes.csv")
    counts = [int(line.split(",")[1]) for line in table.read_text().splitlines()[1:]]
    assert sum(counts) == 144, "the figures are of validation"

    asked = ("run=last", QUIET)
    refused = run(tmp_path, "evaluate.py", *asked)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: run=last was trained with dataset.sealed=true: its test split is sealed;")
    assert refused.stderr.count("\n") == 1
    measured = run(tmp_path, "evaluate.py", *asked, "split=val")
    assert measured.returncode == 0, measured.stderr
    assert not [name for name in only_run(tmp_path).data.metrics if name.startswith("test/")]

    done = run(tmp_path, "evaluate.py", *asked, "unseal=true")
    assert done.returncode == 0, done.stderr
    opened = only_run(tmp_path)
    assert f"test/acc                {opened.data.metrics['test/acc']:.4f}" in done.stdout
    assert opened.data.tags["test.unsealed"].startswith("20") and opened.info.status == "FINISHED"
    again = run(tmp_path, "evaluate.py", *asked)
    assert again.returncode == 0, "now it is a run like any other"


def test_an_ordinary_run_has_no_seal_to_open(trained):
    done = run(trained.folder, "evaluate.py", "run=best", "unseal=true")
    assert done.returncode == 2
    assert "trained with dataset.sealed=false, its test split is not sealed" in done.stderr


def test_without_test_and_validation_a_run_keeps_its_curves(tmp_path):
    none = ("callbacks=last_checkpoint", "dataset.validation.fraction=0")
    done = run(tmp_path, "train.py", *SMALL, "dataset.sealed=true", "figures.diagram=false", *none)
    assert done.returncode == 0, done.stderr
    assert "no pictures of predictions: no split was measured" in done.stdout
    drawn = {path.name for path in tmp_path.glob("outputs/*/*/figures/*")}
    assert "learning_curves.png" in drawn and "confusion_matrix.png" not in drawn


def test_photos_of_a_sealed_run_are_tested_as_they_were_held_out(tmp_path):
    photos(tmp_path / "photos" / "train")
    photos(tmp_path / "test", count=5)
    data = (
        "dataset=image_folder",
        "dataset.path=photos",
        "dataset.image_size=8",
        "batch_size=4",
        "dataset.sealed=true",
    )
    (tmp_path / "photos" / "test").mkdir()
    assert run(tmp_path, "train.py", *SMALL, *data, QUIET).returncode == 0
    shutil.copytree(tmp_path / "test", tmp_path / "photos" / "test", dirs_exist_ok=True)  # from the teacher
    done = run(tmp_path, "evaluate.py", "run=last", "unseal=true", QUIET)
    assert done.returncode == 0, done.stderr
    assert "image_folder: 10 test images" in done.stdout and "new images" not in done.stdout


@pytest.mark.slow
def test_the_winner_of_a_sealed_sweep_is_validated_only(tmp_path):
    search = ("search=none", '+search.batch_size="choice(32, 64)"', "sweep.n_trials=2", "sweep.final_seeds=1")
    quick = ("model=dnn", "model.hidden_units=[4]", "trainer.max_epochs=1", "tracking.log_model=false", QUIET)
    done = run(tmp_path, "sweep.py", *quick, *search, "dataset.sealed=true")
    assert done.returncode == 0, done.stderr
    assert "to validate it; the test split is sealed" in done.stdout
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    runs = client.search_runs([item.experiment_id for item in client.search_experiments()])
    assert not [name for item in runs for name in item.data.metrics if "test/" in name]
    (winner,) = (item for item in runs if item.data.tags.get("sweep.role") == "winner")
    (above,) = (item for item in runs if item.data.tags.get("sweep.role") == "sweep")
    assert above.data.metrics["winner/val/acc_mean"] == winner.data.metrics["best/val/acc"]
    assert re.search(rf"^val/acc +{winner.data.metrics['best/val/acc']:.4f} \(n=1\)$", done.stdout, re.MULTILINE)


def folder(path: Path, **changes: object):
    """Return the section of a folder of photos."""
    return settings("dataset=image_folder", f"dataset.path='{path}'", "dataset.image_size=8").dataset.model_copy(
        update=changes
    )


def photos(path: Path, count: int = 12, side: int = 12) -> None:
    for shade, name in ((60, "dark"), (190, "light")):
        (path / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.new("L", (side, side), shade + number).save(path / name / f"{number}.png")
