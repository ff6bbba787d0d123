"""The whole story of a comparison, top to bottom: sides, pairs, looks, verdict."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import mlflow
import optuna

from cnnlab import process
from cnnlab.console import console
from cnnlab.errors import UsageError
from cnnlab.job import Job
from cnnlab.settings.base import digest
from cnnlab.settings.comparing import Comparing
from cnnlab.settings.read import read, resolve
from cnnlab.signals import Interruption, deferred
from cnnlab.sweeps.dashboard import name_goals
from cnnlab.sweeps.storage import PARENT_RUN, StudyLock, check_storage
from cnnlab.sweeps.study import needs_database, open_study, requeue_dead
from cnnlab.tracking.delivery import now
from cnnlab.tracking.provenance import code_tags
from cnnlab.tracking.recording import left_behind
from cnnlab.tracking.run import TrackedRun, create_run, open_run
from cnnlab.tracking.schema import VALIDATION, Role, Tag
from cnnlab.verdicts.boundaries import Design
from cnnlab.verdicts.comparison import Comparison, command_of, definition, earlier_looks, question
from cnnlab.verdicts.decision import Rule
from cnnlab.verdicts.existing import compare_runs
from cnnlab.verdicts.known import kept_of, known_runs
from cnnlab.verdicts.launch import queue_settings, train_pairs
from cnnlab.verdicts.pairs import Pairs, seed_pairs
from cnnlab.verdicts.results import Judged, Verdict, finish
from cnnlab.verdicts.sides import Side, direction, is_run, measured_labels, read_sides


def compare(job: Job) -> Verdict:
    """Judge, and say what of the runs the tracking server does not have yet."""
    begun = now()
    return replace(judge(job), waits=left_behind(begun))


def judge(job: Job) -> Verdict:
    """Say whether B is better than A: train both in pairs until the answer is there, or take two runs that exist.

    Nothing is written before everything is checked. The same call continues a comparison that was interrupted. Raises
    UsageError for sides that cannot be trained or compared.
    """
    started = time.perf_counter()
    process.begin()
    process.begin_search()
    asked = read(Comparing, resolve(job.config))
    named = [is_run(side) for side in (asked.a, asked.b)]
    if all(named):
        return compare_runs(asked, job)
    if any(named):
        run, other = ("a", "b") if named[0] else ("b", "a")
        text = str(getattr(asked, run))
        raise UsageError(
            f"{run}={text!r} is a run and {other} are settings; compare two runs, or write "
            f'{run}="like={text}": the run\'s settings, trained again'
        )
    if problems := check_storage(asked.compare.storage):
        raise UsageError(*(line.replace("sweep.storage", "compare.storage") for line in problems))
    a, b = read_sides(asked, job)
    settings, metric = asked.compare, asked.metric
    folds = a.settings.dataset.validation.folds
    if settings.folds:
        numbers = [(fold, fold) for fold in range(folds)]
    else:
        numbers = seed_pairs(a.digest == b.digest, settings.seed, settings.max_seeds)
    design = Design(settings.min_seeds, len(numbers), settings.alpha)
    step = 0.0 if metric.endswith(("/loss", "/objective")) else 1 / len(measured_labels(a.plan, metric))
    rule = Rule(design, settings.delta, step, 1 / (folds - 1) if settings.folds else 0.0)
    folds_of = settings.seed if settings.folds else None
    taken = {
        (side.name, number): run
        for side, own in ((a, [pair[0] for pair in numbers]), (b, [pair[1] for pair in numbers]))
        for number, run in known_runs(side, own, metric, folds_of).items()
    }
    name = f"compare-{digest(definition(asked, a, b))}"
    study, lock = open_study(queue_settings(settings, name), name, ["minimize"])
    name_goals(study, [metric])
    with needs_database(settings.storage), open_parent(job, asked, a, b, study, lock) as parent:
        client = mlflow.MlflowClient(asked.tracking.uri)
        pairs = Pairs(numbers, rule.unit, metric, client, study, lock, taken)
        this = Comparison(job, asked, a, b, rule, pairs, parent)
        requeue_dead(study, lock, settings.retries)
        introduce(this)
        try:
            found = train_pairs(this)
        except Interruption as interruption:
            interruption.add_note(f"MLflow run {parent.run_id} is KILLED; the same command continues the comparison:")
            interruption.add_note(command_of(job, asked))
            raise
        judged = Judged(
            asked=asked,
            better=direction(metric, a.settings),
            rule=rule,
            finding=this.find(found),
            pairs=found,
            predictions=partial(kept_of, client, metric=metric),
            data=a.plan.data,
            parent=parent,
            folder=job.folder,
            experiment=parent.experiment_id,
            command=command_of(job, asked),
        )
        return finish(judged, time.perf_counter() - started)


@contextmanager
def open_parent(
    job: Job, asked: Comparing, a: Side, b: Side, study: optuna.Study, lock: StudyLock
) -> Iterator[TrackedRun]:
    """Open the MLflow run of the comparison, the same one in every launch; the trainings are its children."""
    tags: dict[str, str] = {Tag.ROLE: Role.COMPARISON, Tag.STUDY: study.study_name, Tag.COMMAND: command_of(job, asked)}
    tags |= {Tag.COMPARED_A: str(asked.a), Tag.COMPARED_B: str(asked.b), Tag.COMPARED_METRIC: asked.metric}
    tags |= {Tag.COMPARED_PAIR: question(asked, a, b), Tag.DATASET: a.settings.dataset.name} | code_tags(Path.cwd())
    changes = {"uri": asked.tracking.uri, "run_name": f"compare {a.name} {b.name}", "system_metrics": False}
    tracking = a.settings.tracking.model_copy(update=changes)
    with lock.held(), deferred():
        run_id = study.user_attrs.get(PARENT_RUN)
        if run_id is None:
            run_id = create_run(tracking, tags)
            study.set_user_attr(PARENT_RUN, run_id)
    with open_run(tracking, {}, run_id) as run:
        yield run


def introduce(this: Comparison) -> None:
    """Say what is compared, and what is there already."""
    asked, settings = this.asked, this.settings
    for side in (this.a, this.b):
        console.print(f"{side.name.upper()}  {getattr(asked, side.name)}", soft_wrap=True)
    numbers = this.pairs.numbers
    if numbers[0][0] != numbers[0][1]:
        console.print(
            f"A and B are the same setting: B is trained with seeds of its own, from {numbers[0][1]} on; with common "
            "ones every difference would be 0",
            soft_wrap=True,
        )
    images = len(measured_labels(this.a.plan, asked.metric))
    of_folds = f" in each of {len(numbers)} folds, seed {settings.seed}" if settings.folds else ""
    split = "validation" if asked.metric.startswith(VALIDATION) else "test"
    console.print(
        f"{asked.metric} on {images:,} {split} images of {this.a.plan.data.name}{of_folds}, {settings.min_seeds} to "
        f"{len(numbers)} pairs, {1 - settings.alpha:.4g} confidence over all looks; run {this.parent.run_id}",
        soft_wrap=True,
    )
    if looks := earlier_looks(this):
        many = "" if len(looks) == 1 else f", the latest of {len(looks)}"
        said = f"{looks[0].info.run_id}{many}: {looks[0].data.tags[Tag.VERDICT]}"
        console.print(
            f"they were compared before, in run {said}; another look is another chance to err, which the "
            f"{settings.alpha:g} does not cover",
            soft_wrap=True,
            markup=False,
        )
    if this.pairs.taken:
        console.print(f"{len(this.pairs.taken)} trainings are tracked already and are taken", soft_wrap=True)
