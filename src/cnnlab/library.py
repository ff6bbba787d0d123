"""What the commands do, called from a notebook or a program; arguments are those of the command line.

    from cnnlab import train, compare, evaluate, predict, load

    result = train("model=deep_cnn", "trainer.max_epochs=3")
    result.metrics["test/acc"], result.history, result.model(images)

All of them raise UsageError, whose `problems` are the lines that a command prints. A folder `conf/` in the current
folder is taken as one's own configuration, unless `config_dir` names another.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnlab import evaluation, exporting, prediction, process, registering, training
from cnnlab.checkpoint import asked_of, find_saved
from cnnlab.compose import composing_error
from cnnlab.errors import UsageError
from cnnlab.exporting import Exported
from cnnlab.job import Job, compose_job
from cnnlab.options import name_run
from cnnlab.own_path import add_to_path
from cnnlab.quoting import quote_texts
from cnnlab.settings.trained import Prediction
from cnnlab.signals import Interruption, interruptible
from cnnlab.start import own_folder
from cnnlab.sweeps.results import SweepRun
from cnnlab.sweeps.run import sweep as run_sweep
from cnnlab.tracking.registry import Registered
from cnnlab.tracking.schema import BEST, Metric
from cnnlab.tracking.store import absolute_uri
from cnnlab.trained_model import Model
from cnnlab.verdicts.run import compare as run_comparison

ONE_AT_A_TIME = threading.RLock()
Folder = str | os.PathLike[str]


@dataclass(frozen=True)
class TrainedRun:
    """What a training leaves: the MLflow run, its metrics, and the kept checkpoint as a model.

    `metrics` are the test split's, unless it is sealed, and, as `best/...`, the kept epoch's; `history` has a row an
    epoch, counted from 1.
    """

    run_id: str
    folder: Path
    metrics: Mapping[str, float]
    best_epoch: int
    training_seconds: float
    history: pd.DataFrame
    model: Model

    def __repr__(self) -> str:
        names = (Metric.TEST_ACCURACY, Metric.TEST_LOSS, Metric.BEST_VAL_ACCURACY, Metric.BEST_VAL_LOSS)
        shown = [f"{name} {self.metrics[name]:.4f}" for name in names if name in self.metrics][:2]
        told = ", ".join([*shown, f"best epoch {self.best_epoch} of {len(self.history)}"])
        return f"<run {self.run_id}: {told}>"


@dataclass(frozen=True)
class ComparedRun:
    """What a comparison has found; `pairs` has a row a pair.

    `answer` is 'better', 'worse' or 'no worse' of B, or 'indistinguishable'; `gain` is by how much B is better on
    average, whichever way of the metric that is, and `interval` holds the true one. All three are None for a single
    pair of runs.
    """

    verdict: str
    answer: str | None
    gain: float | None
    interval: tuple[float, float] | None
    pairs: pd.DataFrame
    run_id: str
    folder: Path

    def __repr__(self) -> str:
        return f"<comparison {self.run_id}: {self.verdict}>"


def train(*overrides: str, config_dir: Folder | None = None, folder: Folder | None = None) -> TrainedRun:
    """Train, track and test one classifier, as `python train.py OVERRIDES` does.

    Checkpoints and pictures go to `folder`, a new one under outputs/ by default. With several devices the processes
    that are not the first one end here.
    """
    with asked("train", overrides, config_dir, folder) as job:
        result = training.train(job)
    if result is None:
        sys.exit(0)
    history = pd.DataFrame.from_dict(result.history, orient="index").rename_axis("epoch")
    kept = {f"{BEST}{name}": value for name, value in result.history[result.best_epoch].items() if is_measure(name)}
    plan = result.plan
    checkpoint = Path(plan.checkpoint.best_model_path)
    model = Model(plan.classifier, plan.data.class_names, plan.data.input_shape, checkpoint, result.run_id)
    return TrainedRun(
        run_id=result.run_id,
        folder=result.folder,
        metrics=result.metrics | kept,
        best_epoch=result.best_epoch,
        training_seconds=result.training_seconds,
        history=history,
        model=model,
    )


def sweep(*overrides: str, config_dir: Folder | None = None, folder: Folder | None = None) -> SweepRun:
    """Search the best configuration, as `python sweep.py OVERRIDES` does; the same call continues a study."""
    with asked("sweep", overrides, config_dir, folder) as job:
        return run_sweep(job)


def compare(*overrides: str, config_dir: Folder | None = None, folder: Folder | None = None) -> ComparedRun:
    """Say whether B is better than A, as `python compare.py OVERRIDES` does: compare("a=model=mlp", "b=model=dnn")."""
    with asked("compare", overrides, config_dir, folder) as job:
        found = run_comparison(job)
    finding = found.finding
    return ComparedRun(
        verdict=found.sentence,
        answer=str(finding.answer) if finding else None,
        gain=finding.mean if finding else None,
        interval=(finding.low, finding.high) if finding else None,
        pairs=pd.read_csv(found.folder / "pairs.csv"),
        run_id=found.run_id,
        folder=found.folder,
    )


def evaluate(*overrides: str, config_dir: Folder | None = None, folder: Folder | None = None) -> dict[str, float]:
    """Return the metrics of a trained classifier on a split, as `python evaluate.py OVERRIDES` does."""
    with asked("evaluate", overrides, config_dir, folder) as job:
        return evaluation.evaluate(job)


def predict(*overrides: str, config_dir: Folder | None = None, folder: Folder | None = None) -> pd.DataFrame:
    """Return the classes of images, as `python predict.py OVERRIDES` does.

    One row an image file: `class`, `probability`, and the probability of each class by its name. Raises Incomplete,
    when all else is done, for files that cannot be read.
    """
    with asked("predict", overrides, config_dir, folder) as job:
        answers = prediction.predict(job)
    rows = {}
    for path, probabilities in answers.probabilities.items():
        best = int(probabilities.argmax())
        named = dict(zip(answers.class_names, probabilities.tolist(), strict=True))
        rows[str(path)] = {"class": answers.class_names[best], "probability": float(probabilities[best]), **named}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("image")


def export(*overrides: str, config_dir: Folder | None = None, folder: Folder | None = None) -> Exported:
    """Write a trained classifier for other programs, as `python export.py OVERRIDES` does; return where it is."""
    with asked("export", overrides, config_dir, folder) as job:
        return exporting.export(job)


def register(*overrides: str, config_dir: Folder | None = None, folder: Folder | None = None) -> Registered:
    """Put a classifier into MLflow's registry, as `python register.py OVERRIDES` does; return what it is there."""
    with asked("register", overrides, config_dir, folder) as job:
        return registering.register(job)


def load(run: str | None = None, *overrides: str, checkpoint: Folder | None = None) -> Model:
    """Return the model of a tracked run (its id or the start of it, `best`, `mnist@champion`), or of a checkpoint file.

    `overrides` are those of `python predict.py`: dataset=NAME to narrow `best`, tracking.uri=ADDRESS, or the settings
    that name a network of your own again.
    """
    given = [f"run={run}"] if run is not None else []
    given += [f"checkpoint={os.fspath(checkpoint)}"] if checkpoint is not None else []
    with asked("predict", (*given, *overrides), None, None) as job:
        process.begin()
        saved = find_saved(asked_of(Prediction, job))
    return Model(saved.classifier, saved.class_names, saved.input_shape, saved.checkpoint, saved.run_id)


def is_measure(name: str) -> bool:
    """Return whether a metric of an epoch measures the network, and not the machine."""
    return name.startswith(("train/", "val/")) and name != Metric.SPEED


@contextmanager
def asked(door: str, overrides: tuple[str, ...], config_dir: Folder | None, folder: Folder | None) -> Iterator[Job]:
    """Compose what a call asks for; Ctrl-C in the block is a KeyboardInterrupt, after the run has ended as KILLED.

    One call at a time, whatever thread it comes from: torch's random numbers, Hydra and MLflow's open run belong to the
    whole process.
    """
    if wrong := [item for item in overrides if not isinstance(item, str)]:
        raise UsageError(*(f"{item!r} is no setting; give texts, such as 'model=mlp'" for item in wrong))
    with ONE_AT_A_TIME:
        yield from _composed(door, overrides, config_dir, folder)


def _composed(door: str, overrides: tuple[str, ...], config_dir: Folder | None, folder: Folder | None) -> Iterator[Job]:
    process.set_environment()
    own = Path(config_dir).absolute() if config_dir is not None else own_folder()
    if own is not None and not own.is_dir():
        raise UsageError(f"config_dir={str(own)!r} is not a folder")
    try:
        job = compose_job(
            door, quote_texts(name_run(door, overrides)), own, Path(folder) if folder is not None else None
        )
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise UsageError(composing_error(error, door)) from error
    add_to_path(job.own_folder)
    # MLflow keeps one connection an address: a relative one would go on meaning the folder of the first call.
    if isinstance(uri := OmegaConf.select(job.config, "tracking.uri"), str):
        OmegaConf.update(job.config, "tracking.uri", absolute_uri(uri))
    try:
        with interruptible():
            yield job
    except Interruption as interruption:
        raise KeyboardInterrupt(interruption.name) from interruption
