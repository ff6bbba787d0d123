"""Several runs measured as one: against their own probabilities, averaged by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import mlflow
import pytest
import torch

from cnnlab.checkpoint import load_saved
from cnnlab.data import load
from cnnlab.ensemble import averaged, views
from commands import run

pytestmark = pytest.mark.slow  # the trainings that all of them look at take more than ten seconds

QUICK = ("model=mlp", "model.hidden_units=[8]", "trainer.max_epochs=1", "tracking.log_model=false")
PLAIN = ("figures.enabled=false",)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of four runs, and their ids: two seeds, one of fewer classes, one validated on other images."""
    folder = tmp_path_factory.mktemp("runs")
    changes = ["seed=1", "seed=2 dataset.scaling=raw", "seed=3 dataset.validation.seed=5", "seed=4 dataset=own_ones"]
    made = {}
    own = folder / "mine" / "dataset"
    own.mkdir(parents=True)
    (folder / "ones.py").write_text(
        "import torch\n\n\ndef images():\n"
        "    pixels = torch.randint(0, 255, (40, 1, 28, 28), dtype=torch.uint8)\n"
        "    return (pixels, torch.arange(40) % 2), (pixels, torch.arange(40) % 2)\n"
    )
    (own / "own_ones.yaml").write_text("defaults: [own]\nname: own_ones\n_target_: ones.images\n")
    for name, given in zip(("first", "second", "split", "other"), changes, strict=True):
        ran = run(folder, "train.py", "--config-dir", str(folder / "mine"), *QUICK, *PLAIN, *given.split())
        assert ran.returncode == 0, ran.stderr
        (made[name],) = re.findall(r"^MLflow run +(\w+)$", ran.stdout, re.MULTILINE)[-1:]
    return folder, made


def test_the_average_is_that_of_the_members_probabilities(runs):
    folder, made = runs
    names = [made["first"], made["second"]]
    ran = run(folder, "evaluate.py", f"run=[{','.join(names)}]", "tta=shift", "figures.samples=3")
    assert ran.returncode == 0, ran.stderr
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    members = []
    for name in names:
        (kept,) = client.list_artifacts(name, "checkpoints")
        members.append(load_saved(Path(client.download_artifacts(name, kept.path))))
    data = load(members[0].description.dataset)
    total = torch.zeros(len(data.test_labels), 10)
    with torch.inference_mode():
        for member in members:
            for view in views(data.test_images, "shift"):
                total += member.classifier.eval()(view).softmax(1)
    accuracy = float((total.argmax(1) == data.test_labels).float().mean())
    assert float(re.search(r"^test/acc +([\d.]+)$", ran.stdout, re.MULTILINE)[1]) == pytest.approx(accuracy, abs=5e-5)
    assert "an ensemble of 2" in ran.stdout and "over 5 views of each image" in ran.stdout
    assert all(f"run {name}, checkpoint of epoch" in ran.stdout for name in names)
    (file,) = folder.glob("outputs/*/*/ensemble.json")
    said = json.loads(file.read_text())
    assert [member["run"] for member in said["members"]] == names and said["tta"] == "shift"
    assert said["metrics"]["test/acc"] == pytest.approx(accuracy)
    assert {picture.name for picture in (file.parent / "figures").glob("*.png")} == {
        "confusion_matrix.png",
        "mistakes.png",
        "samples.png",
    }, "an ensemble has no filters of its own"
    file.unlink()


def test_one_member_seen_once_says_what_it_says_alone(runs):
    folder, made = runs
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    (kept,) = client.list_artifacts(made["first"], "checkpoints")
    saved = load_saved(Path(client.download_artifacts(made["first"], kept.path)))
    data = load(saved.description.dataset)
    together = averaged([saved], data.test_images, data.test_labels, "none", 100)
    measured = client.get_run(made["first"]).data.metrics
    assert together.metrics("test")["test/acc"] == pytest.approx(measured["test/acc"])
    assert together.metrics("test")["test/loss"] == pytest.approx(measured["test/loss"], rel=1e-4)


def test_one_run_alone_may_be_seen_several_times(runs):
    folder, made = runs
    ran = run(folder, "evaluate.py", f"run={made['first']}", "tta=flip", "split=val", *PLAIN)
    assert ran.returncode == 0 and "over 2 views of each image" in ran.stdout and "member" not in ran.stdout


@pytest.mark.parametrize(
    ("names", "given", "line"),
    [
        (("first", "first"), (), "names {first} twice; an ensemble has every member once"),
        (("first",), (), "is one run; an ensemble has two or more"),
        (("first", "other"), (), "run={other} was trained on dataset=own_ones, run={first} on dataset=digits"),
        (("first", "split"), ("split=val",), "split='val': run={split} and run={first} have other images there"),
        (
            ("first", "second"),
            ("tta=shfit",),
            "tta='shfit' is unknown; allowed: none, shift, flip, flip_shift",
        ),
    ],
)
def test_what_is_no_ensemble_is_one_line(runs, names, given, line):
    folder, made = runs
    ran = run(folder, "evaluate.py", f"run=[{','.join(made[name] for name in names)}]", *given, *PLAIN)
    assert ran.returncode == 2 and ran.stderr.count("\n") == 1
    assert line.format(**made) in ran.stderr


def test_views_are_the_image_its_neighbours_and_their_mirrors():
    image = torch.zeros(1, 1, 3, 4)
    image[0, 0, 1, 1] = 1
    places = {name: [tuple(view[0, 0].nonzero()[0].tolist()) for view in views(image, name)] for name in NAMES}
    assert places["none"] == [(1, 1)]
    assert places["flip"] == [(1, 1), (1, 2)]
    assert places["shift"] == [(1, 1), (0, 1), (2, 1), (1, 0), (1, 2)]
    assert len(places["flip_shift"]) == 10 and set(places["flip_shift"]) > set(places["shift"])


NAMES = ("none", "flip", "shift", "flip_shift")
