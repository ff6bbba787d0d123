"""What a trained and tested run leaves: metrics, checkpoint, predictions, model and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from cnnlab import kept_predictions
from cnnlab.beside import beside
from cnnlab.console import console
from cnnlab.data.rows import Rows
from cnnlab.describing import describe_model, describe_run
from cnnlab.errors import UsageError
from cnnlab.metrics import mean_metrics
from cnnlab.plan import Plan
from cnnlab.portable import Portable, facts_about
from cnnlab.settings.training import measured
from cnnlab.tracking.descriptions import PICTURE
from cnnlab.tracking.history import History, at_epoch
from cnnlab.tracking.kept_model import model_name
from cnnlab.tracking.run import TrackedRun
from cnnlab.tracking.schema import PREDICTIONS_FILE, VALIDATION, VALIDATION_PREDICTIONS_FILE, Metric


@dataclass(frozen=True)
class Result:
    """What a finished run leaves: where it is, and how good its best checkpoint is on the test split.

    `plan` holds the classifier with the weights of that checkpoint, `history` the metrics of each epoch. `metrics` are
    empty where the test split is sealed.
    """

    run_id: str
    folder: Path
    plan: Plan
    best_epoch: int
    training_seconds: float
    metrics: dict[str, float]
    history: Mapping[int, Mapping[str, float]]
    model_uri: str | None = None  # of the model in MLflow, where one was logged
    registered: str | None = None  # what became of it in the registry, where it was asked to go there
    waits: str | None = None  # what of the run no server has yet, and the command that delivers it


def keep(run: TrackedRun, plan: Plan, result: Result) -> Result:
    """Keep what a trained and tested plan leaves: its metrics, checkpoint, model and pictures; return the result."""
    best_epoch, epochs = result.best_epoch, plan.trainer.current_epoch
    run.stop_sampling()
    classifier, data = plan.classifier, plan.data
    ending = {
        Metric.BEST_EPOCH: best_epoch,
        Metric.EPOCHS: epochs,
        Metric.TRAINING_SECONDS: result.training_seconds,
    }
    history = run.history(plan.settings.chosen_monitors)
    found = result.metrics | ending | at_epoch(history, best_epoch)
    if not data.sealed:
        assert classifier.predictions is not None
        # Of each class they are in classes.csv: as metrics they would be most of what MLflow draws.
        found |= mean_metrics(classifier.predictions, "test")
    run.log_results(found)
    if best_epoch != epochs:
        # MLflow shows and sorts by what stands at the last step: let that be the kept checkpoint's.
        reached = {name: value for name, value in result.history[best_epoch].items() if name.startswith(VALIDATION)}
        run.log_metrics(epochs + 1, reached)
    run.log_file(Path(plan.checkpoint.best_model_path), "checkpoints")
    classifier.cpu()
    folder = result.folder / "figures"
    signature = f"{plan.settings.tracking.run_name} on {data.name}, run {run.run_id[:8]}"
    drawing = partial(draw, folder, plan, history, best_epoch, signature)
    figures = plan.settings.figures.enabled
    with beside(drawing) if figures else nullcontext() as drawn:
        if plan.settings.tracking.log_model:
            result = replace(result, model_uri=keep_model(run, plan))
        keep_predictions(run, plan, result.folder)
        if drawn is not None:
            for note in drawn():
                console.print(note, soft_wrap=True)
            run.log_folder(folder, "figures")
    describe_run(run, measures_shown(result, plan), folder if figures else None)
    return result


def draw(folder: Path, plan: Plan, history: History, best_epoch: int, signature: str) -> list[str]:
    """Draw all pictures of a trained and tested plan into `folder`; return one line for each thing left out."""
    # They import matplotlib, which training does not wait for.
    from cnnlab.figures.draw import Subject, draw_all
    from cnnlab.figures.preview import draw_preview

    classifier, data = plan.classifier, plan.data
    subject = Subject(
        scaling=classifier.scaling,
        network=classifier.network,
        class_names=data.class_names,
        images=Rows(data.train_images, plan.data_module.validation_index) if data.sealed else data.test_images,
        predictions=classifier.predictions,
        split="validation" if data.sealed else "test",
        history=history,
        best_epoch=best_epoch,
        signature=signature,
    )
    draw_preview(folder / Path(PICTURE).name, history, best_epoch)
    return draw_all(folder, plan.settings.figures, subject)


def keep_predictions(run: TrackedRun, plan: Plan, folder: Path) -> None:
    """Keep what the network says of each image of test and validation, so that runs can be compared later."""
    data, module, classifier = plan.data, plan.data_module, plan.classifier
    if not data.sealed:
        assert classifier.predictions is not None
        places = torch.arange(len(data.test_labels))
        run.log_file(kept_predictions.keep(folder / PREDICTIONS_FILE, places, classifier.predictions))
    index = module.validation_index
    if len(index):
        images, labels = Rows(data.train_images, index), data.train_labels[index]
        predictions = kept_predictions.predict(classifier, images, labels, plan.settings.evaluation_batch_size)
        run.log_file(kept_predictions.keep(folder / VALIDATION_PREDICTIONS_FILE, index, predictions))


def keep_model(run: TrackedRun, plan: Plan) -> str | None:
    """Keep the model itself in MLflow and return its address, where it has one by now.

    Where it has no graph it is not kept, and a line says why.
    """
    from cnnlab.logged_model import About, log_model  # imports torch's exporter, which training does not wait for

    classifier, data = plan.classifier, plan.data
    model = Portable(classifier.scaling, classifier.network).cpu()
    facts = facts_about(data.class_names, data.input_shape, classifier.scaling)
    try:
        about = About(model_name(plan.settings.tracking.run_name), describe_model(run, plan), (data.name, data.digest))
        return log_model(run, model, facts, data.train_images[:2].contiguous(), about)
    except UsageError as error:
        for line in error.problems:
            console.print(f"the model is not in MLflow, its checkpoint is: {line}", soft_wrap=True, markup=False)
        return None


def measures_shown(result: Result, plan: Plan) -> dict[str, float]:
    """Return accuracy, loss, objective and the chosen metrics of the test split; of validation where it is sealed."""
    shown = ("acc", "loss", "objective", *measured(plan.settings.metrics))
    if not plan.data.sealed:
        return {f"test/{name}": result.metrics[f"test/{name}"] for name in shown}
    reached = result.history[result.best_epoch]
    return {name: reached[name] for name in (f"{VALIDATION}{part}" for part in shown) if name in reached}
