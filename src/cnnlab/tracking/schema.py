"""Every tag, role, parameter prefix and metric name, once, with its meaning.

Whoever writes to the store and whoever reads from it uses these names; nothing else in the package spells them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

Direction = Literal["min", "max"]
# What a checkpoint or early stopping may watch in any run, and which way is better; beside them the run's own MEASURES
# of validation. The test split never selects anything.
MONITORS: dict[str, Direction] = {
    "train/loss": "min",
    "train/acc": "max",
    "train/objective": "min",
    "val/loss": "min",
    "val/acc": "max",
    "val/objective": "min",
}
# What `metrics` may name, and which way is better: measured as val/NAME each epoch, as test/NAME at the end.
Measure = Literal[
    "f1", "precision", "recall", "specificity", "balanced_acc", "top3_acc", "top5_acc",
    "auroc", "average_precision", "kappa", "matthews", "calibration_error",
]  # fmt: skip
MEASURES: dict[Measure, Direction] = {
    "f1": "max",  # mean over classes, as precision, recall and specificity are
    "precision": "max",
    "recall": "max",
    "specificity": "max",
    "balanced_acc": "max",  # mean of the classes' accuracies, leaving out classes that nobody is of or was taken for
    "top3_acc": "max",  # whether the true class is among the three most probable ones
    "top5_acc": "max",
    "auroc": "max",  # of each class against all others, mean over classes; as average_precision
    "average_precision": "max",
    "kappa": "max",  # Cohen's
    "matthews": "max",  # correlation coefficient
    "calibration_error": "min",  # expected difference between confidence and accuracy
}
# Drawn as learning curves.
CURVES = ("train/loss", "train/acc", "val/loss", "val/acc")


class Tag(StrEnum):
    """Tags of a run. Those of MLflow's own (`mlflow.*`) carry its names."""

    PARENT = "mlflow.parentRunId"  # of trials and winners: the sweep's run
    NOTE = "mlflow.note.content"  # the description, in Markdown, that MLflow shows on top of a page
    COLOR = "mlflow.runColor"  # in which MLflow draws a run: the same for all of one setting
    NAME = "mlflow.runName"
    ROLE = "sweep.role"  # of every run of a sweep, and of a tested file: one of Role; a run of train.py has none

    DATASET = "dataset"  # the names of the configuration's groups
    MODEL = "model"
    REGULARIZATION = "regularization"
    OPTIMIZER = "optimizer"
    IMAGES = "images"  # how many are in each split
    TRAINING_IMAGES = "images.digest"  # of those that are trained and validated on, whoever reads the test split
    PARAMETERS = "parameters"  # how many the network has
    SEALED = "test.sealed"  # 'true' of a run that opened no test split: it has no test metrics,
    UNSEALED = "test.unsealed"  # until evaluate.py opened it, at this time
    SEED = "seed"
    FOLD = "fold"  # of k-fold cross-validation: which part was validation
    INITIAL_RUN = "init.run"  # of a warm start: the run whose weights it began with, where they came from one
    INITIAL_WEIGHTS = "init.weights"  # and their digest
    SETTINGS = "settings"  # digest of all settings but seed and place; only results carry it, trials do not

    COMMAND = "command"  # as a shell takes it
    FOLDER = "folder"  # where its checkpoints and pictures are, on its host
    RESUMED = "resumed"  # of a run that was gone on with: after which epochs, as '3, 7'
    EXTENDS = "extends"  # the finished run whose training this one went on with
    SLURM_JOB = "slurm.job"
    LIKE = "like"  # the run whose settings this one started from
    OVERRIDES = "overrides"  # what `python train.py` takes to repeat this run
    EXPERIMENT = "experiment"  # the recipe, where one was chosen
    MULTIRUN = "multirun"  # the same for all jobs of one `train.py -m`

    COMMIT = "git.commit"
    BRANCH = "git.branch"
    SOURCE = "cnnlab.source"  # digest of cnnlab's own code, in a checkout or installed
    DIRTY = "git.dirty"  # 'true' where files differ from the commit; the artifact uncommitted.diff has them
    DEVICE = "device"  # as torch names it: cpu, cuda:0
    DEVICE_NAME = "device.name"  # the processor or the card
    THREADS = "device.threads"  # of torch on the CPU
    HOST = "host"
    PROCESS = "process"  # that has the run open: machine, number and start, by which its death is told
    PLATFORM = "platform"
    PYTHON = "version.python"  # `version.PACKAGE` of the other packages

    RECORDED = "recorded"  # the name of the journal in which the run, or its model, was kept before its server had it
    ERROR = "error"  # of a FAILED run: the exception in one line; traceback.txt has the rest
    INTERRUPTION = "interruption"  # of a KILLED run: the signal, or that its process was found to be gone

    STUDY = "sweep.study"  # of a sweep: Optuna's study
    BEST_TRIAL = "sweep.best_trial"  # of a sweep: the number of its best trial
    BEST_RUN = "sweep.best_run"  # of a sweep: the run of its best trial
    BEST_PARAMETERS = "sweep.best_parameters"  # of a sweep: what its best trial was given

    COMPARED_A = "compare.a"  # of a comparison: its sides, as they were given
    COMPARED_B = "compare.b"
    COMPARED_METRIC = "compare.metric"
    COMPARED_PAIR = "compare.pair"  # digest of the trained sides, in either order, and the metric: one question
    VERDICT = "compare.verdict"  # in one sentence

    TRIAL = "trial.number"
    TRIAL_STATE = "trial.state"  # of a trial: 'complete', 'pruned' or 'infeasible'; a failed one's run is FAILED
    FUSED = "trial.fused"  # of a trial that began as a part of one program: of how many trials
    CONTINUES = "trial.continues"  # of a trial that went on where another one was pruned or had died
    DUPLICATE = "trial.duplicate_of"  # of a trial that took over another one's result


VERSION = "version."  # + package
READING = "test.read."  # + moment, of a run whose test split was read: the reading as JSON, a tag each


class Role(StrEnum):
    """What a run is there for that is no training of train.py."""

    SWEEP = "sweep"  # the sweep itself: it trains nothing
    TRIAL = "trial"  # trained to be compared, not to be kept
    READING = "reading"  # no training: keeps that a checkpoint file, which belongs to no run, was tested
    WINNER = "winner"  # the best trial trained again and tested: a result like any run of train.py
    COMPARISON = "comparison"  # two settings or runs compared: it trains nothing
    CONTENDER = "contender"  # trained to be compared, and kept: a result like any run of train.py


class Metric(StrEnum):
    """Metrics beyond `SPLIT/MEASURE`, where SPLIT is train, val or test and MEASURE one of:

    loss (cross-entropy in nats), acc (0 to 1), objective (loss and penalties, what training minimizes); of validation
    and test the chosen MEASURES; of test always calibration_error, precision, recall and f1 (those of each class are in
    the artifact figures/classes.csv).

    The step is the epoch, and 0 of what came out of a run: `test/...`, `best/...`, best_epoch, epochs and
    training_seconds. MLflow shows and sorts by the value at the last step, so where the kept checkpoint is not the last
    epoch's, its validation metrics stand once more at step `epochs` + 1: `val/acc` of a finished run is what the kept
    and tested checkpoint reached.
    """

    EPOCH = "epoch"  # counted from 1; tells Lightning's callbacks, never kept
    EPOCH_SECONDS = "epoch_seconds"
    SPEED = "train/samples_per_second"
    LEARNING_RATE = "learning_rate"

    TRAIN_LOSS = "train/loss"
    TRAIN_ACCURACY = "train/acc"
    VAL_LOSS = "val/loss"
    VAL_ACCURACY = "val/acc"
    TEST_ACCURACY = "test/acc"
    TEST_LOSS = "test/loss"

    BEST_VAL_ACCURACY = "best/val/acc"  # what the kept checkpoint reached; see BEST
    BEST_VAL_LOSS = "best/val/loss"
    BEST_EPOCH = "best_epoch"  # of the kept checkpoint
    EPOCHS = "epochs"  # trained in all
    TRAINING_SECONDS = "training_seconds"


# Artifacts.
SETTINGS_FILE = "config.yaml"  # a run's settings as plain values
ENVIRONMENT_FILE = "environment.txt"  # every installed package, as pip takes it
PREDICTIONS_FILE = "predictions.npz"  # of the test split: index, label, logits
VALIDATION_PREDICTIONS_FILE = "validation_predictions.npz"  # the same of the validation split
DIFF_FILE = "uncommitted.diff"  # from the commit to the code that ran

# Prefixes of metrics.
VALIDATION = "val/"
BEST = "best/"  # of a run or a trial: what the kept checkpoint, or the one a trial would keep, reached
BEST_TRIAL = "best_trial/"  # of a sweep: the objectives of its best trial
WINNER = "winner/"  # of a sweep: `winner/test/acc_mean` and `_std` over the winner's seeds
COMPARED = "compare/"  # of a comparison: what its verdict says, as numbers
TRIALS = "trials/"  # of a sweep: how many are complete, pruned, failed
COST = "cost/"  # of a trial: parameters, latency (milliseconds an image), where they are objectives
SEED_PREFIX = "seed_{}/"  # of a trial of several seeds: the epochs of the second and following ones

# Prefix of parameters: the search space of a sweep, beside the settings that all trials share.
SEARCH = "search."


def is_result(tags: dict[str, str]) -> bool:
    """Return whether a run with these tags is a result: any but a sweep's trials, and what only stands above others."""
    trained = tags.get(Tag.ROLE, Role.WINNER) in (Role.WINNER, Role.CONTENDER)
    return trained and (Tag.PARENT not in tags or Tag.ROLE in tags)
