"""What of a run goes into MLflow: everything needed to know it, repeat it and use it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import torch
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.models import infer_signature
from torch import nn

from cnnlab.config import as_yaml, flatten
from cnnlab.data.images import ImageData
from cnnlab.figures.draw import draw_all
from cnnlab.plan import Plan
from cnnlab.predictions import class_metrics
from cnnlab.tracking.history import History
from cnnlab.tracking.provenance import PACKAGES, environment, uncommitted_diff
from cnnlab.tracking.run import TrackedRun


def record_start(run: TrackedRun, config: Mapping[str, Any], data: ImageData, sizes: Mapping[str, int]) -> None:
    """Keep what is known before the first step: configuration, data, code and environment."""
    run.log_parameters(flatten(config))
    run.log_text(as_yaml(config), "config.yaml")
    run.log_text(environment(), "environment.txt")
    if diff := uncommitted_diff(Path.cwd()):
        run.log_text(diff, "uncommitted.diff")
    profile = {"classes": data.classes, "image": list(data.input_shape), **sizes}
    dataset = Dataset(
        name=data.name,
        digest=data.digest,
        source_type="local",
        source=json.dumps({"uri": data.source}),
        profile=json.dumps(profile),
    )
    lineage = DatasetInput(dataset, [InputTag("mlflow.data.context", "training, validation, test")])
    run.client.log_inputs(run.run_id, [lineage])


def record_predictions(
    run: TrackedRun, settings: Mapping[str, Any], plan: Plan, folder: Path, history: History, best_epoch: int
) -> list[str]:
    """Keep what the test split's predictions say of each class, and the pictures where `settings.enabled`.

    The pictures are drawn into `folder`. Returns one line for each thing that could not be drawn.
    """
    classifier, data = plan.classifier, plan.data
    assert classifier.predictions is not None
    run.log_metrics(best_epoch, class_metrics(classifier.predictions, data.class_names, "test"))
    if not settings["enabled"]:
        return []
    notes = draw_all(
        folder,
        settings,
        classifier.scaling,
        classifier.network,
        data.class_names,
        data.test_images,
        classifier.predictions,
        "test",
        history,
        best_epoch,
    )
    run.log_folder(folder, "figures")
    return notes


def record_model(scaling: nn.Module, network: nn.Module, data: ImageData) -> None:
    """Keep the model for `mlflow.pyfunc.load_model`: float32 pixels 0..255 [B, C, H, W] to probabilities [B, classes].

    Scaling and softmax are part of it, dropout is off, and any batch size goes: the example holds two images, since
    the exporter takes a batch of one for a constant.
    """
    model = nn.Sequential(scaling, network, nn.Softmax(dim=1)).cpu().eval()
    example = data.test_images[:2].float()
    with torch.no_grad():
        signature = infer_signature(example.numpy(), model(example).numpy())
    requirements = [line for line in environment().splitlines() if line.split("==")[0] in PACKAGES]
    mlflow.pytorch.log_model(
        model,
        name="model",
        signature=signature,
        input_example=example.numpy(),
        pip_requirements=requirements,
    )
