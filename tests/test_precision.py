"""What is counted in every precision a training may have, and that the test is that of the model people get."""

from __future__ import annotations

import re

import mlflow
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cnnlab.evaluation import measure
from cnnlab.keeping import keep_model
from cnnlab.metrics import EpochSums, Predictions, class_metrics
from cnnlab.plan import Plan, make_plan
from cnnlab.tracking.run import open_run
from cnnlab.training import fit
from cnnlab.training import test_best as best_tested
from commands import run, settings

MEASURED = ("f1", "precision", "recall", "calibration_error")
NAMES = [str(digit) for digit in range(10)]


def small_plan(folder, precision: str, *overrides: str) -> Plan:
    parts = ("model=dnn", "trainer.max_epochs=2", f"trainer.precision={precision}")
    return make_plan(settings(*parts, f"tracking.uri=sqlite:///{folder}/mlflow.db", *overrides), folder)


class Recount:
    """Keeps what the network said of every batch, and the objective, to count it all again."""

    def __init__(self, plan: Plan):
        self.batches: dict[str, list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]] = {}
        said: list[torch.Tensor] = []
        plan.classifier.network.register_forward_hook(lambda module, images, logits: said.append(logits.detach()))
        objective = plan.classifier.objective

        def kept(split: str, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
            value = objective(split, batch)
            self.batches.setdefault(split, []).append((said[-1], batch[1], value.detach().double()))
            return value

        plan.classifier.objective = kept

    def take(self, split: str) -> tuple[dict[str, float], Predictions]:
        """Return the metrics since the last call, in float64."""
        batches = self.batches.pop(split)
        logits, labels = (torch.cat([batch[place] for batch in batches]) for place in (0, 1))
        objective = sum(float(value) * len(labels) for _, labels, value in batches) / len(labels)
        loss = float(F.cross_entropy(logits.double(), labels))
        accuracy = int((logits.argmax(1) == labels).sum()) / len(labels)
        return {"loss": loss, "acc": accuracy, "objective": objective}, Predictions(logits.float(), labels)


@pytest.mark.parametrize("precision", ["32-true", "bf16-true", "16-true", "64-true", "bf16-mixed"])
def test_every_metric_is_what_a_recount_of_the_predictions_gives(tmp_path, precision):
    chosen = f"metrics=[{','.join(MEASURED)}]"
    plan = small_plan(tmp_path, precision, chosen, "callbacks.ema_decay=0.9", "augmentation=affine")
    recount, epochs = Recount(plan), []

    def compare(epoch: int, metrics: dict[str, float]) -> None:
        epochs.append(epoch)
        for split in ("train", "val"):
            counted, predictions = recount.take(split)
            assert {name: metrics[f"{split}/{name}"] for name in counted} == pytest.approx(counted, rel=1e-5)
            assert metrics[f"{split}/acc"] == counted["acc"], "a count has no rounding"
        classes = class_metrics(predictions, NAMES, "val")
        assert {name: metrics[f"val/{name}"] for name in MEASURED} == pytest.approx(
            {name: classes[f"val/{name}"] for name in MEASURED}, abs=1e-5
        )

    fit(plan, [compare])
    assert epochs == [1, 2]
    tested, _ = best_tested(plan)
    counted, _ = recount.take("test")
    assert {name: tested[f"test/{name}"] for name in counted} == pytest.approx(counted, rel=1e-5)
    assert plan.classifier.predictions.logits.dtype == torch.float32


def test_sums_follow_the_network_to_its_device_and_not_to_its_precision():
    sums = torch.nn.ModuleList([EpochSums()]).to(torch.bfloat16).half().double()[0]
    kinds = {name: getattr(sums, name).dtype for name in ("loss", "objective", "correct", "images")}
    assert kinds == dict.fromkeys(("loss", "objective"), torch.float64) | dict.fromkeys(
        ("correct", "images"), torch.int64
    )
    sums.reset()
    assert sums.loss.dtype == torch.float64
    assert torch.nn.ModuleList([sums]).to("meta")[0].loss.device.type == "meta"


@pytest.mark.parametrize(("precision", "averaged"), [("bf16-true", torch.float32), ("64-true", torch.float64)])
def test_averaged_weights_have_digits_enough(tmp_path, precision, averaged):
    plan = small_plan(tmp_path, precision, "callbacks.ema_decay=0.999", "trainer.max_epochs=1")
    fit(plan, [])
    kept = torch.load(plan.checkpoint.best_model_path, weights_only=True)
    assert kept["state_dict"]["network.layers.dense1.weight"].dtype == averaged
    assert kept["current_model_state"]["network.layers.dense1.weight"].dtype == (
        torch.bfloat16 if precision == "bf16-true" else torch.float64
    )


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_the_test_is_that_of_the_checkpoint_in_float32(tmp_path, precision):
    plan = small_plan(tmp_path, precision)
    fit(plan, [])
    validated = plan.trainer.precision
    tested, _ = best_tested(plan)
    data = plan.data
    measured, _ = measure(plan.classifier, data.test_images, data.test_labels, "test", 1000)
    assert {name: tested[name] for name in measured} == pytest.approx(measured, rel=1e-6)
    assert next(plan.classifier.network.parameters()).dtype == torch.float32
    assert plan.trainer.precision == validated == precision


def test_the_model_in_mlflow_answers_as_the_test_of_a_network_in_bfloat16_says(tmp_path):
    plan = small_plan(tmp_path, "bf16-true")
    with open_run(plan.settings.tracking, {}) as run:
        fit(plan, [])
        tested, _ = best_tested(plan)
        address = keep_model(run, plan)
    mlflow.set_tracking_uri(plan.settings.tracking.uri)
    probabilities = mlflow.pyfunc.load_model(address).predict(plan.data.test_images.numpy())
    right = probabilities[np.arange(len(probabilities)), plan.data.test_labels.numpy()]
    assert -np.log(right).mean() == pytest.approx(tested["test/loss"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_evaluating_a_run_says_what_its_own_test_said(tmp_path, precision):
    # With a rate that makes it sure of its answers, bfloat16 would show in the third digit of the loss.
    quick = ("model=dnn", "trainer.max_epochs=3", "optimizer.lr=0.01", "figures.enabled=false")
    trained = run(tmp_path, "train.py", *quick, f"trainer.precision={precision}")
    evaluated = run(tmp_path, "evaluate.py", "run=last", "figures.enabled=false")
    assert trained.returncode == evaluated.returncode == 0, trained.stderr + evaluated.stderr
    for name in ("acc", "loss", "objective"):
        said = [re.findall(rf"^test/{name} +([\d.]+)$", done.stdout, re.MULTILINE) for done in (trained, evaluated)]
        assert said[0] == said[1] != []
