"""The whole story of one run, top to bottom."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from cnnlab.config import resolve, settings_digest
from cnnlab.console import EpochLines, console, show_closing
from cnnlab.models.summary import layer_table
from cnnlab.plan import Plan, make_plan
from cnnlab.tracking.history import at_epoch, epoch_history
from cnnlab.tracking.provenance import code_tags, command_tags, machine_tags
from cnnlab.tracking.record import record_model, record_predictions, record_start
from cnnlab.tracking.run import TrackedRun, open_run


@dataclass(frozen=True)
class Result:
    """What a finished run leaves: where it is, and how good its best checkpoint is on the test split."""

    run_id: str
    folder: Path
    checkpoint: Path
    best_epoch: int
    metrics: dict[str, float]


def train(config: DictConfig) -> Result | None:
    """Train, keep and test one classifier as the composed configuration says; None on all processes but the first.

    Training picks the weights, validation picks the checkpoint, the test split is read once, at the end. Raises
    UsageError, before anything is written, for a configuration that cannot run.
    """
    started = time.perf_counter()
    values = resolve(config)
    folder = Path(HydraConfig.get().runtime.output_dir)
    plan = make_plan(values, folder)

    first = plan.trainer.is_global_zero
    with open_run(values["tracking"], start_tags(values, plan)) if first else nullcontext() as run:
        if run:
            introduce(run, values, plan, folder)
        fit_started = time.perf_counter()
        plan.trainer.fit(plan.classifier, plan.batches)
        training_seconds = time.perf_counter() - fit_started
        tested = test_best(plan)
        if not run:
            return None

        result = conclude(run, values, plan, folder, tested, training_seconds)

    show_closing(closing_rows(result, run, plan, time.perf_counter() - started, training_seconds))
    return result


def test_best(plan: Plan) -> Mapping[str, float]:
    """Load the best checkpoint's weights and return the metrics of the test split, which is read here and only here.

    Not through the trainer's `ckpt_path`: where weights are averaged, that restores those training would continue with,
    and not the averaged ones, which were validated.
    """
    content = torch.load(plan.checkpoint.best_model_path, map_location="cpu", weights_only=True)
    plan.classifier.load_state_dict(content["state_dict"])
    return plan.trainer.test(plan.classifier, plan.batches, verbose=False)[0]


def conclude(
    run: TrackedRun,
    config: Mapping[str, Any],
    plan: Plan,
    folder: Path,
    tested: Mapping[str, float],
    training_seconds: float,
) -> Result:
    """Keep what a trained and tested plan leaves: its metrics, checkpoint, model and pictures."""
    best = Path(plan.checkpoint.best_model_path)
    best_epoch = epoch_of(best)
    metrics = {name: value for name, value in tested.items() if name.startswith("test/")}
    ending = {"best_epoch": best_epoch, "epochs": plan.trainer.current_epoch, "training_seconds": training_seconds}
    history = epoch_history(run.client, run.run_id)
    run.log_metrics(best_epoch, metrics | ending | at_epoch(history, best_epoch))
    run.log_file(best, "checkpoints")
    if config["tracking"]["log_model"]:
        record_model(plan.classifier.scaling, plan.classifier.network, plan.data)
    for note in record_predictions(run, config["figures"], plan, folder / "figures", history, best_epoch):
        console.print(note, soft_wrap=True)
    return Result(run.run_id, folder, best, best_epoch, metrics)


def start_tags(config: Mapping[str, Any], plan: Plan) -> dict[str, str]:
    """Return the tags that say what ran, where, and from which code."""
    device = str(plan.trainer.strategy.root_device)
    parameters = sum(parameter.numel() for parameter in plan.classifier.network.parameters())
    names = {group: str(config[group].get("name")) for group in ("dataset", "model", "regularization", "optimizer")}
    known = names | {"parameters": str(parameters), "seed": str(config["seed"]), "settings": settings_digest(config)}
    known |= command_tags()
    return known | code_tags(Path.cwd()) | machine_tags(device)


def introduce(run: TrackedRun, config: Mapping[str, Any], plan: Plan, folder: Path) -> None:
    """Show the network, record what is known before the first step, and let the epochs be recorded and shown."""
    sizes = plan.batches.sizes
    console.print(layer_table(plan.classifier.network, plan.data.input_shape))
    console.print(
        f"{plan.data.name}: {sizes['train']} training, {sizes['validation']} validation, {sizes['test']} test images; "
        f"run {run.run_id}",
        soft_wrap=True,
    )
    record_start(run, config, plan.data, sizes)
    plan.logger.sinks += [run.log_metrics, EpochLines(plan.trainer.max_epochs)]


def epoch_of(checkpoint: Path) -> int:
    """Return the epoch, counted from 1, after which a checkpoint was written."""
    return int(torch.load(checkpoint, map_location="cpu", weights_only=True)["epoch"]) + 1


def closing_rows(
    result: Result, run: TrackedRun, plan: Plan, seconds: float, training_seconds: float
) -> dict[str, str]:
    """Return the closing block: what came out, and where it is."""
    rows = {name: f"{result.metrics[name]:.4f}" for name in ("test/acc", "test/loss", "test/objective")}
    watched = plan.checkpoint.monitor
    score = plan.checkpoint.best_model_score
    reached = f" ({watched} {float(score):.4f})" if watched and score is not None else ""
    rows["best epoch"] = f"{result.best_epoch} of {plan.trainer.current_epoch}{reached}"
    rows["wall time"] = f"{seconds:.1f} s, of which training {training_seconds:.1f} s"
    rows["MLflow run"] = run.run_id
    rows["folder"] = str(result.folder)
    page = f"experiments/{run.experiment_id}/runs/{run.run_id}?workflowType=machine_learning"
    rows["open it"] = f"make ui, then http://127.0.0.1:5000/#/{page}"
    return rows
