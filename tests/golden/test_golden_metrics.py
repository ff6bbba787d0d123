"""First objectives and the metrics of two epochs of every shipped network on the digits, as they were once recorded.

To the last digit on the processor they were recorded on; on another one, whose kernels round differently, nearly.
Only a change that is meant to change results may record them anew.
"""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest
import torch

from cnnlab import process, training
from cnnlab.models.layers import SameConv2d
from cnnlab.plan import Plan, make_plan
from cnnlab.tracking.provenance import processor
from commands import settings

GOLDEN = json.loads(Path(__file__).with_name("metrics.json").read_text())
PLAIN = ("trainer.precision=32-true", "trainer.compile=none")  # as they were recorded
SAME_PROCESSOR = processor().startswith(f"{GOLDEN['processor']},")


@pytest.fixture
def plan(request, tmp_path) -> Plan:
    """The plan of a model, as a fresh process with one thread has it."""
    threads = torch.get_num_threads()
    process.begin(threads=1)
    made = settings(
        f"model={request.param}", "trainer.max_epochs=2", *PLAIN, f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"
    )
    process.seed(made.seed)
    plan = make_plan(made, tmp_path)
    for layer in plan.classifier.network.modules():
        if isinstance(layer, SameConv2d):
            layer.training_edges = layer.edges  # other shapes are added up in another order
    yield plan
    torch.set_num_threads(threads)


def expected(values: list[float]) -> object:
    return values if SAME_PROCESSOR else pytest.approx(values, abs=0.03)


@pytest.mark.parametrize("plan", GOLDEN["models"], indirect=True)
def test_first_objectives(plan):
    batches = plan.data_module
    batches.trainer = plan.trainer
    optimizer = plan.classifier.make_optimizer(plan.classifier.network.parameters())
    plan.classifier.train()
    objectives = []
    for batch in islice(batches.train_dataloader(), 5):
        objective = plan.classifier.objective("train", batch)
        objectives.append(objective.item())
        optimizer.zero_grad()
        objective.backward()
        optimizer.step()
    assert objectives == expected(GOLDEN["models"][plan.settings.model.name]["first_objectives"])


@pytest.mark.parametrize("plan", GOLDEN["models"], indirect=True)
def test_two_epochs(plan):
    seen: dict[str, list[float]] = {}

    def listen(epoch: int, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            seen.setdefault(name, []).append(value)

    training.fit(plan, [listen])
    tested, _ = training.test_best(plan)
    seen |= {name: [value] for name, value in tested.items()}
    golden = {name: values for name, values in GOLDEN["models"][plan.settings.model.name].items() if "/" in name}
    assert {name: seen[name] for name in golden} == {name: expected(values) for name, values in golden.items()}
