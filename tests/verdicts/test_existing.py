"""Runs that exist, compared without a training; and what every run keeps for that."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import numpy as np
import pytest

from cnnlab.errors import UsageError
from cnnlab.kept_predictions import read
from cnnlab.tracking.ledger import readings_of
from cnnlab.verdicts.images import compare_images
from commands import run

SMALL = ("model=dnn", "model.hidden_units=[8]", "trainer.max_epochs=2", "figures.enabled=false")
PREDICTIONS = "predictions.npz"
LEAN = ("tracking.log_model=false", "tracking.system_metrics=false")


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """A folder with three seeds each of two learning rates; its client and its runs by learning rate and seed."""
    folder = tmp_path_factory.mktemp("existing")
    done = run(folder, "train.py", "-m", *SMALL, *LEAN, "optimizer.lr=0.001,0.01", "seed=0,1,2")
    assert done.returncode == 0, done.stderr
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    runs = {(item.data.params["optimizer.lr"], item.data.tags["seed"]): item for item in client.search_runs(["1"])}
    return folder, client, runs


def artifact(client: mlflow.MlflowClient, found: mlflow.entities.Run, name: str) -> Path:
    return Path(client.download_artifacts(found.info.run_id, name))


def last_verdict(folder: Path) -> dict:
    return json.loads(max(folder.glob("outputs/*/*/verdict.json")).read_text())


def test_every_run_keeps_what_it_says_of_each_image_of_test_and_validation(tracked):
    _, client, runs = tracked
    for found in runs.values():
        for name, metric, images in (
            ("predictions.npz", "test/acc", 360),
            ("validation_predictions.npz", "best/val/acc", 144),
        ):
            kept = read(artifact(client, found, name), name)
            assert kept.logits.shape == (images, 10) and kept.logits.dtype == np.float32
            assert kept.right.mean() == pytest.approx(found.data.metrics[metric], abs=1e-6)
            loss = found.data.metrics[metric.replace("acc", "loss")]
            assert kept.losses.mean() == pytest.approx(loss, rel=1e-4)
            assert len(set(kept.index.tolist())) == images
    with np.load(artifact(client, found, "validation_predictions.npz")) as content:
        assert sorted(content) == ["index", "label", "logits"]


def test_two_runs_are_compared_with_the_other_seeds_of_their_settings(tracked):
    folder, _, runs = tracked
    a, b = runs["0.001", "0"], runs["0.01", "1"]
    done = run(folder, "compare.py", f"a={a.info.run_id}", f"b={b.info.run_id}", "metric=test/acc")
    assert done.returncode == 0, done.stderr
    assert "test/acc, 3 pairs of runs with common seeds" in done.stdout
    kept = last_verdict(folder)
    for pair in kept["pairs"]:
        seed = str(pair["seeds"][0])
        assert pair["seeds"][0] == pair["seeds"][1]
        assert pair["values"] == [runs[lr, seed].data.metrics["test/acc"] for lr in ("0.001", "0.01")]
    differences = [pair["values"][1] - pair["values"][0] for pair in kept["pairs"]]
    # Student's own interval of three differences, and one image of 360 where they would be closer.
    deviation = max(np.std(differences, ddof=1), 1 / 360)
    assert kept["gain"]["half_width"] == pytest.approx(4.302653 * deviation / 3**0.5, rel=1e-5)
    assert kept["images"]["count"] == 360 and len(kept["images"]["mcnemar_by_pair"]) == 3


@contextmanager
def alone(tracked, seed: str) -> Iterator[None]:
    """Let the runs of a seed have no others of their settings."""
    _, client, runs = tracked
    others = [found for key, found in runs.items() if key[1] != seed]
    for found in others:
        client.set_tag(found.info.run_id, "settings", "another")
    try:
        yield
    finally:
        for found in others:
            client.set_tag(found.info.run_id, "settings", found.data.tags["settings"])


@contextmanager
def without(found: mlflow.entities.Run, name: str) -> Iterator[Path]:
    """Let a run have kept no such artifact, as older ones did not; yield where it is meanwhile."""
    place = Path(found.info.artifact_uri.removeprefix("file://")) / name
    hidden = place.parents[1] / f"hidden {name}"
    shutil.move(place, hidden)
    try:
        yield hidden
    finally:
        shutil.move(hidden, place)


def test_one_pair_says_nothing_about_seeds_and_what_it_can_about_images(tracked):
    folder, _, runs = tracked
    a, b = runs["0.001", "0"], runs["0.01", "0"]
    with alone(tracked, "0"):
        done = run(folder, "compare.py", f"a={a.info.run_id[:8]}", f"b={b.info.run_id}")
    assert done.returncode == 0, done.stderr
    assert "in one pair of runs; one pair says nothing about other seeds" in done.stdout
    assert "McNemar, exact" in done.stdout and "pair by pair" not in done.stdout
    assert "gain" not in last_verdict(folder)


@pytest.mark.parametrize(("metric", "name"), [("val/acc", "validation_predictions.npz"), ("test/acc", PREDICTIONS)])
def test_what_an_older_run_has_not_kept_is_computed_from_its_checkpoint(tracked, metric, name):
    folder, client, runs = tracked
    a, b = runs["0.001", "2"], runs["0.01", "2"]
    before = len(readings_of(client.get_run(a.info.run_id)))
    with alone(tracked, "2"), without(a, name) as hidden:
        done = run(folder, "compare.py", f"a={a.info.run_id}", f"b={b.info.run_id}", f"metric={metric}")
        expected = compare_images([(read(hidden, "a"), read(artifact(client, b, name), "b"))], metric, 0.05)
    assert done.returncode == 0, done.stderr
    assert f"run {a.info.run_id} ({a.info.run_name}) has kept no {name}: computed again from its check" in done.stdout
    images = last_verdict(folder)["images"]
    assert (images["more_a"], images["more_b"]) == (expected.more_a, expected.more_b) and expected.more_b
    assert images["difference"] == pytest.approx([expected.low, expected.mean, expected.high])
    assert max(folder.glob("outputs/*/*/verdict.json")).with_name("flips.png").is_file()
    # Of the test split that was one more reading, of the run that was computed alone.
    readings = readings_of(client.get_run(a.info.run_id))
    assert len(readings) == before + (metric == "test/acc") and len({item.test for item in readings}) == 1


def test_why_an_older_run_cannot_be_computed_is_said_and_its_numbers_still_count(tracked):
    folder, _, runs = tracked
    a, b = runs["0.001", "2"], runs["0.01", "2"]
    with alone(tracked, "2"), without(a, "validation_predictions.npz"), without(a, "checkpoints"):
        done = run(folder, "compare.py", f"a={a.info.run_id}", f"b={b.info.run_id}")
    assert done.returncode == 0, done.stderr
    assert f"nothing is said about the images: run {a.info.run_id}" in done.stdout and "B - A" in done.stdout
    assert "has kept no validation_predictions.npz, and it cannot be computed: run=" in done.stdout
    assert "has kept no checkpoint" in done.stdout
    with without(a, "validation_predictions.npz"), without(a, "checkpoints"):
        others = run(folder, "compare.py", f"a={a.info.run_id}", f"b={b.info.run_id}")
    assert "1 pair is left out: run" in others.stdout and "val/acc, 2 pairs of runs" in others.stdout


def test_images_that_are_others_than_then_are_not_predicted(tracked):
    folder, client, runs = tracked
    a, b = runs["0.001", "2"], runs["0.01", "2"]
    for found in (a, b):
        client.set_tag(found.info.run_id, "images.digest", "of others")
    try:
        with without(a, "validation_predictions.npz"), alone(tracked, "2"):
            done = run(folder, "compare.py", f"a={a.info.run_id}", f"b={b.info.run_id}")
    finally:
        for found in (a, b):
            client.set_tag(found.info.run_id, "images.digest", found.data.tags["images.digest"])
    assert "it cannot be computed: the images of digits are others than then" in done.stdout


@pytest.mark.parametrize(
    ("b", "metric", "said"),
    [
        ("nothing", "val/acc", "b='nothing' is unknown"),
        ("0.001", "val/acc", "a and b are the same run"),
        ("0.01", "val/kappa", "has no val/kappa"),
        ("0.01", "epochs", "metric='epochs' is unknown; allowed: "),
    ],
)
def test_what_is_wrong_with_runs_is_told(tracked, b, metric, said):
    folder, _, runs = tracked
    ids = {lr: runs[lr, "0"].info.run_id for lr in ("0.001", "0.01")}
    done = run(folder, "compare.py", f"a={ids['0.001']}", f"b={ids.get(b, b)}", f"metric={metric}")
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_files_that_hold_no_predictions_are_refused(tmp_path):
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "short.npz", index=np.arange(2), label=np.arange(3), logits=np.zeros((3, 2)))
    np.savez(tmp_path / "code.npz", index=np.array([{}], dtype=object), label=np.arange(1), logits=np.zeros((1, 2)))
    for name in ("text", "short", "code", "missing"):
        with pytest.raises(UsageError, match=f"of {name}"):
            read(tmp_path / f"{name}.npz", f"predictions of {name}")
