"""The two sides of a comparison, each a configuration of train.py, checked like a training and against the other."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnlab import like
from cnnlab.choices import became
from cnnlab.compose import composing_error
from cnnlab.data.images import ImageData
from cnnlab.errors import UsageError, collect, shown, unknown
from cnnlab.job import Job, compose_job
from cnnlab.plan import Plan, make_plan, read_training
from cnnlab.quoting import quote_texts
from cnnlab.settings.base import flatten
from cnnlab.settings.commands import FOLD, Training, unknown_monitor
from cnnlab.settings.comparing import Comparing
from cnnlab.settings.read import resolve
from cnnlab.sweeps.devices import check_devices
from cnnlab.sweeps.setup import DatasetCache
from cnnlab.tracking.schema import VALIDATION, Direction

TEST = "test/"
SEALED = "dataset.sealed"  # true for a metric of validation: such a comparison opens no test split
# What a side does not say: it is the comparison's.
OURS = {
    "seed": "the seeds are common to both sides: compare.seed",
    "tracking.uri": "give tracking.uri itself",
    "tracking.offline": "its runs are read again",
    "tracking.register": "a comparison keeps no models",
}
# What is kept of a training beside its numbers, checkpoint and predictions costs time and is no part of the answer.
LEAN = {"figures.enabled": False, "tracking.log_model": False, "tracking.system_metrics": False}


@dataclass(frozen=True)
class Side:
    """One side: its name (a or b), what was asked of it, and what becomes of it."""

    name: str
    job: Job
    config: DictConfig
    settings: Training
    plan: Plan
    digest: str  # of the settings, without the seed

    @property
    def own(self) -> bool:
        """Whether code of the user's own takes part."""
        return any(key.endswith("_target_") for key in flatten(self.settings.plain()))


def is_run(text: object) -> bool:
    """Return whether a side names a run, and not settings: one word without a `=`."""
    words = str(text).split()
    return len(words) == 1 and "=" not in words[0] and not words[0].startswith(("+", "~", "-"))


def read_sides(asked: Comparing, job: Job) -> tuple[Side, Side]:
    """Return both sides; raises UsageError with every problem of both, each line naming its side."""
    problems: list[str] = []
    data = DatasetCache(test=True)
    texts = (("a", str(asked.a)), ("b", str(asked.b)))
    a, b = (collect(problems, read_side, name, text, asked, job, data) for name, text in texts)
    if a and b:
        problems += check_pair(a, b, asked.metric)
        problems += check_folds(a, b, asked, job) if asked.compare.folds else []
    if problems:
        raise UsageError(*problems)
    assert a and b
    return a, b


def read_side(name: str, text: str, asked: Comparing, job: Job, data: DatasetCache) -> Side:
    """Return what a text of overrides becomes; raises UsageError with its problems, the side's name before each."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{name}={shown(text)} cannot be read: {str(error).lower()}") from error
    problems = list(_not_ours(name, words, folds=asked.compare.folds))
    if problems:
        raise UsageError(*problems)
    try:
        wanted = compose_job("train", quote_texts(words), job.own_folder, job.folder / name)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise UsageError(f"{name}: {composing_error(error, 'train')}") from error
    OmegaConf.update(wanted.config, "tracking.uri", asked.tracking.uri)
    try:
        wanted, settings, _ = like.start(wanted)
        config = wanted.config.copy()
        ours: dict[str, object] = {"tracking.uri": asked.tracking.uri, "tracking.offline": False, "like": None, **LEAN}
        if asked.compare.folds:
            ours |= {"seed": asked.compare.seed, FOLD: 0}
        for key, value in ours.items():
            OmegaConf.update(config, key, value)
        if asked.metric.startswith(VALIDATION) and not settings.dataset.sealed:
            OmegaConf.update(config, SEALED, True)
            wanted = replace(wanted, overrides=(*wanted.overrides, f"{SEALED}=true"))
        settings = read_training(resolve(config), data)
        if devices := check_devices(settings.trainer, "compare.n_workers"):
            raise UsageError(*devices)
        plan = make_plan(settings, job.folder, data)
        for key, value in became(settings.trainer, plan.settings.trainer).items():  # for all trainings of the side
            OmegaConf.update(config, key, value)
        known = settings.trainer.model_copy(update={"precision": plan.settings.trainer.precision})
        settings = settings.model_copy(update={"trainer": known})
    except UsageError as error:
        raise UsageError(*(f"{name}: {line}" for line in error.problems)) from error
    return Side(name, wanted, config, settings, plan, settings.digest(plan.start.digest))


def _not_ours(name: str, words: Sequence[str], *, folds: bool) -> Iterator[str]:
    ours = OURS | ({FOLD: "compare.folds=true trains on all of them"} if folds else {})
    for word in words:
        key = word.lstrip("+~").partition("=")[0]
        if word.startswith("-"):
            yield f"{name}: {word!r} is no setting: a side takes KEY=VALUE"
        elif key in ours or key.startswith("hydra"):
            yield f"{name}: {word}: a side does not take {key}; {ours.get(key, 'it is for the whole command')}"


def check_pair(a: Side, b: Side, metric: str) -> list[str]:
    """Return what forbids to compare the sides by the metric, one line each."""
    problems = []
    for side in (a, b):
        if (line := check_metric(metric, side.settings.monitors)) is not None:
            problems.append(f"{side.name}: {line}")
        elif metric.startswith(TEST) and side.settings.dataset.sealed:
            problems.append(f"{side.name}: metric={metric!r} needs the test split, but {SEALED}=true")
        elif metric.startswith(VALIDATION) and not len(side.plan.data_module.validation_index):
            problems.append(
                f"{side.name}: metric={metric!r} needs a validation split, but dataset.validation.fraction=0; "
                "give it a fraction (metric=test/acc reads the test split)"
            )
    if not problems and (line := other_images(a.plan, b.plan, metric)):
        problems.append(line)
    return problems


def check_folds(a: Side, b: Side, asked: Comparing, job: Job) -> Iterator[str]:
    """Yield what forbids to compare the sides over folds, one line each."""
    needs = "compare.folds=true needs"
    for side in (a, b):
        if (method := side.settings.dataset.validation.method) != "fold":
            yield f"{side.name}: {needs} dataset.validation.method='fold', not {method!r}"
    if a.digest == b.digest:
        yield f"{needs} two settings, and a and b are the same one; over seeds it can be compared with itself"
    if asked.metric.startswith(TEST):
        yield f"{needs} a metric of validation, not metric={asked.metric!r}: the test images are the same in all folds"
    folds = a.settings.dataset.validation.folds
    if folds < asked.compare.min_seeds:
        yield f"compare.min_seeds={asked.compare.min_seeds} needs as many folds, but dataset.validation.folds={folds}"
    if typed := [item for item in job.overrides if item.lstrip("+").startswith("compare.max_seeds=")]:
        yield f"{typed[0]} is of seeds; with compare.folds=true there is a pair a fold: dataset.validation.folds"


def check_metric(metric: str, monitors: dict[str, Direction]) -> str | None:
    """Return what is wrong with a metric for a training that has these monitors."""
    known = [name for name in monitors if name.startswith(VALIDATION)]
    known += [name.replace(VALIDATION, TEST, 1) for name in known]
    if metric in known:
        return None
    if metric.startswith(TEST):
        line = unknown_monitor("metric", metric.replace(TEST, VALIDATION, 1), known)
        return line.replace(VALIDATION, TEST, 1) if "is not measured" in line else unknown("metric", metric, known)
    return unknown_monitor("metric", metric, known)


def direction(metric: str, settings: Training) -> Direction:
    """Return which way of a metric is better."""
    return settings.monitors[metric.replace(TEST, VALIDATION, 1)]


def other_images(a: Plan, b: Plan, metric: str) -> str:
    """Return why the sides are not measured on the same images, nothing where they are."""
    first, second = (measured_labels(plan, metric) for plan in (a, b))
    if torch.equal(first, second) and _places_equal(a, b, metric):
        return ""
    keys = [
        f"{key}={shown(old)} and {shown(new)}"
        for key, old, new in _differing(a.settings.flat(), b.settings.flat())
        if key.startswith("dataset.")
    ]
    return f"a and b are not measured on the same images: {', '.join(keys) or 'their datasets differ'}"


def measured_labels(plan: Plan, metric: str) -> torch.Tensor:
    """Return the labels of the split that a metric is of."""
    data: ImageData = plan.data
    return data.test_labels if metric.startswith(TEST) else data.train_labels[plan.data_module.validation_index]


def _places_equal(a: Plan, b: Plan, metric: str) -> bool:
    named = [plan.data.test_keys if metric.startswith(TEST) else plan.data.train_keys for plan in (a, b)]
    if named[0] != named[1] or a.data.name != b.data.name:
        return False
    return metric.startswith(TEST) or torch.equal(a.data_module.validation_index, b.data_module.validation_index)


def _differing(a: dict[str, object], b: dict[str, object]) -> Iterator[tuple[str, object, object]]:
    for key in dict.fromkeys([*a, *b]):
        if a.get(key) != b.get(key):
            yield key, a.get(key), b.get(key)
