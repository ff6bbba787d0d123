"""evaluate.py and what it stands on: a classifier found again measures what its run measured."""

from __future__ import annotations

import csv
import dataclasses
import re
from pathlib import Path

import mlflow
import pytest
import torch
from PIL import Image

from cnnlab.checkpoint import asked_of, find_saved, load_saved
from cnnlab.data import load
from cnnlab.errors import UsageError
from cnnlab.evaluation import _download, load_data, measure
from cnnlab.kept_split import split_of
from cnnlab.settings.read import read
from cnnlab.settings.trained import Choice, Evaluation, Export, Prediction
from commands import composed, dataset, job, loaded, run

PICTURES = {
    "confusion_matrix.png",
    "feature_maps.png",
    "filters.png",
    "learning_curves.png",
    "mistakes.png",
    "samples.png",
}


@pytest.fixture(scope="module")
def checkpoint(trained) -> Path:
    client = mlflow.MlflowClient(trained.uri)
    (kept,) = client.list_artifacts(trained.run.info.run_id, "checkpoints")
    return Path(client.download_artifacts(trained.run.info.run_id, kept.path))


def shown(output: str) -> dict[str, float]:
    """Return the metrics of the closing block."""
    return {name: float(value) for name, value in re.findall(r"^(\w+/\w+) +([\d.]+)$", output, re.MULTILINE)}


class TestRun:
    def test_keeps_pictures_and_mean_metrics(self, trained):
        client = mlflow.MlflowClient(trained.uri)
        run_id = trained.run.info.run_id
        kept = {Path(item.path).name for item in client.list_artifacts(run_id, "figures")}
        assert kept >= PICTURES | {"classes.csv", "confusion_matrix.csv", "network.png"}
        assert {path.name for path in trained.folder.glob("outputs/*/*/figures/*")} == kept
        metrics = trained.run.data.metrics
        (file,) = trained.folder.glob("outputs/*/*/figures/classes.csv")
        recalls = [float(row["recall"]) for row in csv.DictReader(file.open())]
        assert metrics["test/recall"] == pytest.approx(sum(recalls) / 10)
        assert 0 <= metrics["test/calibration_error"] <= 1

    def test_keeps_what_its_checkpoint_reached_on_validation(self, trained):
        metrics = trained.run.data.metrics
        client = mlflow.MlflowClient(trained.uri)
        history = client.get_metric_history(trained.run.info.run_id, "val/acc")
        (at_best,) = [entry.value for entry in history if entry.step == metrics["best_epoch"]]
        assert metrics["best/val/acc"] == at_best
        assert metrics["epochs"] == 3


class TestMeasure:
    @pytest.mark.parametrize("split", ["test", "val"])
    def test_gives_the_numbers_of_the_run(self, trained, checkpoint, split):
        saved = load_saved(checkpoint)
        images, labels = split_of(load(saved.description.dataset), saved.description, split)
        metrics, predictions = measure(saved.classifier, images, labels, split, 1000)
        kept = trained.run.data.metrics
        prefix = "" if split == "test" else "best/"
        for name in ("loss", "acc"):
            assert metrics[f"{split}/{name}"] == pytest.approx(kept[f"{prefix}{split}/{name}"], rel=1e-5)
        right = (predictions.predicted == labels).float().mean()
        assert float(right) == pytest.approx(metrics[f"{split}/acc"])

    def test_the_batch_size_changes_no_prediction(self, checkpoint):
        saved = load_saved(checkpoint)
        images, labels = split_of(load(saved.description.dataset), saved.description, "test")
        (_, whole), (_, parts) = (measure(saved.classifier, images, labels, "test", size) for size in (360, 7))
        torch.testing.assert_close(whole.logits, parts.logits)

    def test_the_train_split_is_measured_with_dropout_off(self, checkpoint):
        saved = load_saved(checkpoint)
        images, labels = split_of(load(saved.description.dataset), saved.description, "train")
        first, second = (measure(saved.classifier.train(), images, labels, "train", 500)[0] for _ in range(2))
        assert first == second
        assert len(labels) == 1293


class TestData:
    def test_a_folder_that_is_there_replaces_the_runs_own_and_is_read_as_then(self, checkpoint, tmp_path, monkeypatch):
        section = dataset("image_folder", path="/gone", root="data")
        saved = load_saved(checkpoint)
        description = saved.description.model_copy(update={"dataset": section})
        saved = dataclasses.replace(saved, description=description)
        asked = []
        monkeypatch.setattr("cnnlab.evaluation.load", lambda section: asked.append(section) or loaded("digits"))
        load_data(saved, Choice(name="image_folder", path=str(tmp_path), root="nowhere"))
        then = {"channels": 1, "image_size": (28, 28)}  # not what auto says of today's files
        assert asked == [section.model_copy(update={"path": str(tmp_path)} | then)]

    def test_another_dataset_is_refused(self, checkpoint):
        with pytest.raises(UsageError, match="trained on dataset=digits"):
            load_data(load_saved(checkpoint), Choice(name="mnist"))

    def test_images_that_have_changed_are_refused(self, checkpoint):
        saved = load_saved(checkpoint)
        description = saved.description.model_copy(update={"class_names": ("a", "b")})
        with pytest.raises(UsageError, match="has changed since the training"):
            load_data(dataclasses.replace(saved, description=description), None)


class TestOverrides:
    @pytest.mark.parametrize("door", ["evaluate", "predict", "export"])
    def test_what_the_run_says_itself_is_refused_line_by_line(self, tmp_path, door):
        kind = {"evaluate": Evaluation, "predict": Prediction, "export": Export}[door]
        wrong = ("dataset.channels=3", "dataset.validation.fraction=0.5", "++model.hidden_units=[3]")
        asked = job(door, tmp_path, "run=best", "dataset=image_folder", "model=dnn", "dataset.path=x", *wrong)
        with pytest.raises(UsageError) as raised:
            asked_of(kind, asked)
        keys = "name, root, path, download, memory_limit"
        takes = f"the run says how its images are read; of dataset this command takes {keys}"
        assert raised.value.problems == [
            f"dataset.channels=3: {takes}",
            f"dataset.validation.fraction=0.5: {takes}",
            "++model.hidden_units=[3]: the run says what its network is; of model this command takes name",
        ]

    @pytest.mark.parametrize(
        "overrides",
        [
            (
                "dataset=image_folder",
                "dataset.path=x",
                "dataset.name=birds",
                "dataset.root=y",
                "dataset.download=false",
            ),
            ("dataset=own", "dataset.name=shapes", "dataset._target_=a.b", "+dataset.count=3"),
            ("+model={name: own, _target_: a.b, width: 3}",),
        ],
    )
    def test_where_images_lie_and_the_users_own_code_are_the_commands(self, tmp_path, overrides):
        asked_of(Evaluation, job("evaluate", tmp_path, "run=best", *overrides))

    def test_whether_archives_are_fetched_is_the_commands(self):
        assert _download(Choice(name="mnist", download=False)) == {"download": False}
        with pytest.raises(UsageError, match=r"dataset\.download takes true or false"):
            _download(Choice(name="mnist", download="no"))


class TestCommand:
    def test_by_run_id_prints_the_runs_metrics_and_draws(self, trained):
        run_id = trained.run.info.run_id
        done = run(trained.folder, "evaluate.py", f"run={run_id[:8]}", "hydra.run.dir=by_id")
        assert done.returncode == 0, done.stderr
        metrics = shown(done.stdout)
        for name in ("test/acc", "test/loss", "test/calibration_error", "test/f1"):
            assert metrics[name] == pytest.approx(trained.run.data.metrics[name], abs=6e-5), name
        assert re.search(r"^9 +36 +[\d.]+ +[\d.]+ +[\d.]+$", done.stdout, re.MULTILINE), "a row for each class"
        assert {path.name for path in (trained.folder / "by_id" / "figures").iterdir()} >= PICTURES

    def test_best_run_of_a_dataset_on_validation(self, trained):
        options = ("run=best", "dataset=digits", "split=val", "figures.enabled=false", "hydra.run.dir=best")
        done = run(trained.folder, "evaluate.py", *options)
        assert done.returncode == 0, done.stderr
        assert trained.run.info.run_id in done.stdout
        assert shown(done.stdout)["val/acc"] == pytest.approx(trained.run.data.metrics["best/val/acc"], abs=6e-5)

    def test_a_checkpoint_file_needs_no_tracking_store(self, tmp_path, checkpoint):
        done = run(tmp_path, "evaluate.py", f"checkpoint='{checkpoint}'", "figures.diagram=false")
        assert done.returncode == 0, done.stderr
        assert not (tmp_path / "mlruns").exists()
        assert not list(tmp_path.rglob("learning_curves.png")), "a file has no history"

    def test_a_mistake_is_one_line_and_exit_code_2(self, trained):
        done = run(trained.folder, "evaluate.py", "run=best", "split=tset")
        assert done.returncode == 2
        assert done.stderr == "error: split='tset' is unknown; allowed: train, val, test; did you mean 'test'?\n"


def photos(folder, names):
    for number in names:
        for shade, name in ((60, "dark"), (190, "light")):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 32 + number), (shade, shade // 2, number)).save(folder / name / f"{number}.png")


def test_photos_added_later_are_left_out_and_those_of_the_run_are_measured(tmp_path):
    photos(tmp_path / "photos", range(20))
    network = ["model=mlp", "dataset=image_folder", "dataset.path=photos", "dataset.name=shades", "batch_size=8"]
    quick = ["trainer.max_epochs=1", "tracking.log_model=false", "figures.enabled=false"]
    done = run(tmp_path, "train.py", *network, *quick)
    assert done.returncode == 0, done.stderr
    assert "images: colour, 40x40 (crop)" in done.stdout
    before = run(tmp_path, "evaluate.py", "run=best", "figures.enabled=false").stdout
    photos(tmp_path / "photos", range(20, 50))
    after = run(tmp_path, "evaluate.py", "run=best", "figures.enabled=false").stdout
    assert "60 new images are left out, 0 of 40 are gone" in after
    assert after.splitlines()[1:] == before.splitlines()
    assert re.search(r"test/acc +[\d.]+", after)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), ["run=RUN_ID", "checkpoint=PATH"]),
        (("run=0123456789abcdef",), ["run='0123456789abcdef' is unknown"]),
        (("run=simple_cnn-dropout_l2-seed",), ["did you mean", "(simple_cnn-dropout_l2-seed0)"]),
        (("run=best", "dataset=mnist"), ["dataset=mnist", "digits"]),
        (("checkpoint=none.ckpt",), ["checkpoint=none.ckpt is not a file"]),
        (("run=best", "tracking.uri=sqlite:///none/mlflow.db"), ["holds no runs yet"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_not_there_is_one_line_with_the_nearest_names(trained, options, words):
    config = composed(f"tracking.uri={trained.uri}", *options, config_name="evaluate")
    with pytest.raises(UsageError) as raised:
        find_saved(read(Evaluation, config))
    (line,) = raised.value.problems
    for word in words:
        assert word in line
