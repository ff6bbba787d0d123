"""The metrics that a user chooses beside loss and accuracy."""

from __future__ import annotations

import os
import subprocess
import sys

import mlflow
import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics

from cnnlab.errors import UsageError
from cnnlab.measures import KINDS, Measures, build_measures
from cnnlab.metrics import Predictions, class_metrics
from cnnlab.plan import make_plan
from cnnlab.settings.training import measured
from cnnlab.training import fit
from cnnlab.training import test_best as best_tested
from commands import environment, run, settings

CLASSES = 6
OWN = """
import torch
from torchmetrics import Metric


class Late(Metric):
    def __init__(self, num_classes, share=1.0):
        super().__init__()
        self.share, self.num_classes = share, num_classes
        self.add_state("wrong", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, probabilities, labels):
        assert probabilities.shape[1] == self.num_classes and probabilities.dtype == torch.float32
        self.wrong += (probabilities.argmax(1) != labels).sum()
        self.images += len(labels)

    def compute(self):
        return self.share * self.wrong / self.images


class Wide(Late):
    def compute(self):
        return torch.zeros(3)
"""


@pytest.fixture
def examples() -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits and labels of six classes, the last of which no image is of or is taken for."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(200, CLASSES, generator=generator) * 2
    logits[:, -1] = -20
    labels = torch.randint(0, CLASSES - 1, (200,), generator=generator)
    return logits, labels


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "measured_code.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)


def values(logits: torch.Tensor, labels: torch.Tensor, *names: str, batch: int = 64) -> dict[str, float]:
    measures = build_measures(names, CLASSES)
    for part in range(0, len(labels), batch):
        measures.update(logits[part : part + batch], labels[part : part + batch])
    return {name: float(value) for name, value in measures.compute().items()}


def test_they_are_what_scikit_learn_says(examples):
    logits, labels = examples
    found = values(logits, labels, *KINDS)
    probabilities, truth = logits.softmax(1).numpy(), labels.numpy()
    predicted = probabilities.argmax(1)
    everyone = {"labels": list(range(CLASSES)), "average": "macro", "zero_division": 0}
    assert found["f1"] == pytest.approx(sklearn_metrics.f1_score(truth, predicted, **everyone), abs=1e-6)
    assert found["precision"] == pytest.approx(sklearn_metrics.precision_score(truth, predicted, **everyone), abs=1e-6)
    assert found["recall"] == pytest.approx(sklearn_metrics.recall_score(truth, predicted, **everyone), abs=1e-6)
    assert found["balanced_acc"] == pytest.approx(sklearn_metrics.balanced_accuracy_score(truth, predicted), abs=1e-6)
    assert found["kappa"] == pytest.approx(sklearn_metrics.cohen_kappa_score(truth, predicted), abs=1e-6)
    assert found["matthews"] == pytest.approx(sklearn_metrics.matthews_corrcoef(truth, predicted), abs=1e-6)
    for k in (3, 5):
        among = np.mean([label in row.argsort()[-k:] for row, label in zip(probabilities, truth, strict=True)])
        assert found[f"top{k}_acc"] == pytest.approx(among, abs=1e-6)
    areas = [sklearn_metrics.roc_auc_score(truth == label, probabilities[:, label]) for label in range(CLASSES - 1)]
    assert found["auroc"] == pytest.approx(sum(areas) / CLASSES, abs=1e-5)


def test_they_agree_with_what_every_run_measures_of_the_test_split(examples):
    logits, labels = examples
    shared = ("f1", "precision", "recall", "calibration_error")
    whole = class_metrics(Predictions(logits, labels), [str(label) for label in range(CLASSES)], "test")
    found = values(logits, labels, *shared)
    assert found == pytest.approx({name: whole[f"test/{name}"] for name in shared}, abs=1e-6)


def test_the_size_of_the_batches_changes_nothing(examples):
    assert values(*examples, *KINDS, batch=7) == pytest.approx(values(*examples, *KINDS, batch=200), abs=1e-6)


def test_a_network_in_half_precision_is_still_counted_exactly():
    measures = build_measures(["f1", "balanced_acc"], 2)
    plan_like = torch.nn.Module()
    plan_like.measures = measures
    plan_like.to(torch.bfloat16)
    labels = torch.tensor([0, 1]).repeat(2000)
    for _ in range(3):
        measures.update(torch.nn.functional.one_hot(labels, 2).to(torch.bfloat16) * 9, labels)
    assert {name: float(value) for name, value in measures.compute().items()} == {"f1": 1.0, "balanced_acc": 1.0}


def refusal(tmp_path, *overrides: str) -> list[str]:
    with pytest.raises(UsageError) as raised:
        make_plan(settings("model=dnn", f"tracking.uri=sqlite:///{tmp_path}/mlflow.db", *overrides), tmp_path)
    assert not any("\n" in line for line in raised.value.problems)
    return raised.value.problems


def own(name: str = "late", **keys: object) -> str:
    given = {"name": name, "_target_": "measured_code.Late", "direction": "min"} | keys
    return "metrics=[{" + ",".join(f"{key}:{value}" for key, value in given.items() if value is not None) + "}]"


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["metrics=[f1,matthew]"], "metrics='matthew' is unknown; allowed: f1, precision, "),
        (["metrics=[matthew]"], "; did you mean 'matthews'?"),
        (["metrics=f1"], "metrics='f1' is not allowed; metrics takes a list of f1, precision"),
        (["metrics=[3]"], "metrics=3 is unknown; allowed: f1"),
        (["metrics=[f1,f1]"], "metrics: 'f1' is there already"),
        ([own("acc")], "metrics: 'acc' is there already"),
        ([own(direction=None)], "metrics.0.direction is missing"),
        ([own(direction="up")], "metrics.0.direction='up' is unknown; allowed: min, max"),
        ([own(_target_=None)], "metrics.0._target_ is missing"),
        ([own(_target_="nowhere.Late")], "metrics.late: "),
        ([own(shar=2)], "metrics.late: Late.__init__() got an unexpected keyword argument 'shar'"),
        (
            [own(_target_="torch.nn.ReLU")],
            "metrics.late: _target_='torch.nn.ReLU' returns ReLU; it takes a Metric",
        ),
        ([own(_target_="measured_code.Wide")], "metrics.late: compute() returns values of shape [3]; it takes one num"),
        (["callbacks.checkpoint.monitor=val/auroc"], "callbacks.checkpoint.monitor='val/auroc' is not measured"),
        (
            ["callbacks.early_stopping.monitor=val/lat", own()],
            "callbacks.early_stopping.monitor='val/lat' is unknown; allowed: train/loss, train/acc, train/objective, "
            "val/loss, val/acc, val/objective, val/late; did you mean 'val/late'?",
        ),
        (["callbacks.checkpoint.monitor=test/f1", "metrics=[f1]"], "callbacks.checkpoint.monitor='test/f1' is not all"),
        (
            ["callbacks.checkpoint.monitor=val/f1", "metrics=[f1]", "dataset.validation.fraction=0"],
            "callbacks.checkpoint.monitor='val/f1' needs a validation split",
        ),
    ],
)
def test_what_cannot_be_measured_is_one_line(tmp_path, own_module, overrides, line):
    told = refusal(tmp_path, *overrides)
    assert line in told[0], told


def test_a_measure_of_more_classes_than_there_are_is_refused():
    with pytest.raises(UsageError, match="metrics: top5_acc needs at least 5 classes, and there are 4"):
        build_measures(["top5_acc", "top3_acc"], 4)


def test_they_are_measured_each_epoch_and_choose_the_checkpoint_by_their_own_direction(tmp_path, own_module):
    made = make_plan(
        settings(
            "model=dnn",
            "trainer.max_epochs=4",
            "optimizer.lr=0.02",
            own().replace("[", "[f1,"),
            "callbacks.checkpoint.monitor=val/late",
            "callbacks.early_stopping.monitor=val/f1",
            f"tracking.uri=sqlite:///{tmp_path}/mlflow.db",
        ),
        tmp_path,
    )
    assert measured(made.settings.metrics) == {"f1": "max", "late": "min"}
    epochs: dict[int, dict[str, float]] = {}
    fit(made, [lambda epoch, metrics: epochs.update({epoch: dict(metrics)})])
    for metrics in epochs.values():
        assert metrics["val/late"] == pytest.approx(1 - metrics["val/acc"], abs=1e-6)
        assert not {"train/f1", "train/late"} & metrics.keys()
    best = min(epochs, key=lambda epoch: epochs[epoch]["val/late"])
    tested, epoch = best_tested(made)
    assert epoch == best and float(made.checkpoint.best_model_score) == pytest.approx(epochs[best]["val/late"])
    assert tested["test/late"] == pytest.approx(1 - tested["test/acc"], abs=1e-6) and 0 < tested["test/f1"] < 1


def test_without_any_nothing_is_counted(tmp_path):
    uri = f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"
    assert make_plan(settings("model=dnn", "metrics=[]", uri), tmp_path).classifier.measures is None


def test_a_run_keeps_them_and_those_of_its_best_epoch(tmp_path):
    chosen = ("metrics=[f1,kappa]", "callbacks.checkpoint.monitor=val/kappa", "trainer.max_epochs=2")
    done = run(tmp_path, "train.py", "model=dnn", *chosen, "figures.enabled=false", "tracking.log_model=false")
    assert done.returncode == 0, done.stderr
    assert "\ntest/kappa" in done.stdout and "(val/kappa 0." in done.stdout
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    (found,) = client.search_runs([item.experiment_id for item in client.search_experiments()])
    metrics = found.data.metrics
    history = {entry.step: entry.value for entry in client.get_metric_history(found.info.run_id, "val/kappa")}
    assert metrics["best/val/kappa"] == history[int(metrics["best_epoch"])] == max(history.values())
    assert {"best/val/f1", "test/f1", "test/kappa"} <= metrics.keys()


TWO = """
import os, sys, torch
import torch.distributed as dist
from cnnlab.measures import KINDS, build_measures
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
logits, labels = torch.load(sys.argv[3])
measures = build_measures(list(KINDS), 6)
part = slice(0, 150) if rank == 0 else slice(150, None)
measures.update(logits[part], labels[part])
print({name: round(float(value), 6) for name, value in measures.compute().items()})
"""


@pytest.mark.slow
def test_two_processes_measure_what_one_does(tmp_path, examples):
    torch.save(examples, tmp_path / "examples.pt")
    (tmp_path / "two.py").write_text(TWO)
    command = [sys.executable, "two.py"]
    paths = [str(tmp_path / "meet"), "examples.pt"]
    variables = environment(PYTHONPATH=os.pathsep.join(item for item in sys.path if item))
    started = [
        subprocess.Popen([*command, str(rank), *paths], cwd=tmp_path, env=variables, stdout=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    said = [process.communicate(timeout=120)[0] for process in started]
    assert said[0] == said[1]
    assert eval(said[0]) == pytest.approx(values(*examples, *KINDS), abs=2e-6)


def test_measures_of_one_name_share_their_counts():
    assert len(Measures({name: KINDS[name](4) for name in ("f1", "recall", "precision")}).metrics.compute_groups) == 3
