"""The whole story of one run, top to bottom."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from cnnlab import lean, process, resuming
from cnnlab.beginning import introduce, place_tags, record_start, start_tags
from cnnlab.beside import can_be_copied
from cnnlab.closing import closing_rows, register_result
from cnnlab.console import EpochLines, console, show_closing
from cnnlab.errors import Incomplete, UsageError
from cnnlab.job import Job
from cnnlab.keeping import Result, keep
from cnnlab.last_checkpoint import State
from cnnlab.like import Origin
from cnnlab.meeting import met
from cnnlab.plan import Plan, make_plan
from cnnlab.ranks import several
from cnnlab.resuming import Continuation
from cnnlab.settings.augmentation import without_effect
from cnnlab.stopping import keeping_best
from cnnlab.tracking.ledger import Door, Reading
from cnnlab.tracking.logger import EpochSink
from cnnlab.tracking.own_code import keep_own_code
from cnnlab.tracking.provenance import command_tags
from cnnlab.tracking.run import TrackedRun, open_run
from cnnlab.tracking.schema import Metric
from cnnlab.tracking.stale import tell_stale_runs
from cnnlab.trainer import in_single_precision

EXPORT = ("cnnlab.logged_model", "torch.export._trace")  # what takes a second or two to import at the end of a run
DRAWING = ("cnnlab.figures.draw", "matplotlib.backends.backend_agg")
LONG = 1.0  # seconds of an epoch


def train(job: Job) -> Result | None:
    """Train, keep and test one classifier as the job's configuration says; None on all processes but the first.

    Training picks the weights, validation picks the checkpoint, the test split is read once, at the end, unless it is
    sealed. Checkpoints and pictures go to `job.folder`. Raises UsageError, before anything is written, for a
    configuration that cannot run.
    """
    started = time.perf_counter()
    process.begin()
    process.free_earlier()
    job, settings, origin = resuming.start(job)
    continued = origin if isinstance(origin, Continuation) else None
    if idle := list(without_effect(settings.augmentation, job.overrides)):
        raise UsageError(*idle)
    process.seed(settings.seed)
    plan = make_plan(settings, job.folder)
    process.use_threads(settings.threads, plan.trainer.num_devices)

    state = continued.state if continued else None
    if continued:
        continued.check(plan)
    first = plan.trainer.is_global_zero
    tags = start_tags(plan) if first else {}
    with met(plan), opened(job, plan, origin, tags) if first else nullcontext() as run:
        if run is None:  # another process of this training has the run
            with several(plan, None, job.folder, job.own_folder):
                fit(plan, [], state)
                test_best(plan)
            return None
        if continued is None:  # else they were looked for before its run was
            tell_stale_runs(settings.tracking.uri)
        before = origin.describe(plan, settings) if isinstance(origin, Origin) else []
        for line in continued.describe(plan, tags) if continued else before:
            console.print(line, soft_wrap=True, markup=False)
        introduce(run, plan)
        listeners: list[EpochSink] = [EpochLines(plan.trainer.max_epochs), importing_ahead(plan)]
        with (
            keeping_best(run, plan),
            several(plan, run, job.folder, job.own_folder, state=state.file if state else None),
        ):
            result = train_and_test(run, plan, job.folder, listeners, job.own_folder, continued=continued)

    result = replace(result, model_uri=result.model_uri or run.model_uri, waits=run.waits)
    if plan.settings.tracking.registers:
        result = register_result(result, plan.settings)
    show_closing(closing_rows(result, run, plan, time.perf_counter() - started))
    return result


@contextmanager
def opened(job: Job, plan: Plan, origin: Origin | Continuation | None, tags: Mapping[str, str]) -> Iterator[TrackedRun]:
    """Open the run of a job, new with the `tags` that say what runs, or again."""
    tracking = plan.settings.tracking
    if isinstance(origin, Continuation) and not origin.extends:
        with origin.held(), open_run(tracking, origin.tags, origin.run_id) as run:
            run.tags.update({**origin.run.data.tags, **run.tags})
            yield run
        return
    known = {**tags, **command_tags(job), **place_tags(job), **(origin.tags if origin else {})}
    with origin.held() if isinstance(origin, Continuation) else nullcontext(), open_run(tracking, known) as run:
        yield run


def train_and_test(
    run: TrackedRun,
    plan: Plan,
    folder: Path,
    listeners: Sequence[EpochSink] = (),
    own_folder: Path | None = None,
    door: Door = "train",
    continued: Continuation | None = None,
) -> Result:
    """Train a plan in an open run, test the best checkpoint and keep all there is to keep.

    `listeners` are told of each epoch, after the run has recorded it; `own_folder` is the user's own configuration,
    `door` what the ledger of the test split says, `continued` the run that goes on.
    """
    state = continued.state if continued else None
    if continued is None or continued.extends:
        for name in keep_own_code(run, plan.settings.plain(), own_folder):
            console.print(f"too large to be kept with the run: {name}", soft_wrap=True, markup=False)
        record_start(run, plan)
    for epoch, row in state.epochs.items() if state else ():
        run.log_epoch(epoch, row)  # what the run has of them already stands
    seconds = fit(plan, [run.log_epoch, *listeners], state)
    metrics, best_epoch = test_best(plan, run, door)
    return keep(run, plan, Result(run.run_id, folder, plan, best_epoch, seconds, metrics, plan.last.epochs))


def fit(plan: Plan, listeners: Sequence[EpochSink], state: State | None = None) -> float:
    """Train the plan and return the seconds it took; each epoch's metrics go to the listeners, in their order.

    From a `state` the same training goes on; its epochs and seconds count.
    """
    plan.logger.sinks.extend([*listeners, plan.last.see])
    if state is not None:
        plan.last.go_on(state)
    for logger in plan.trainer.loggers:
        logger.log_hyperparams(plan.settings.flat())
    started = time.perf_counter()
    file = state.file if state else None
    plan.trainer.fit(plan.classifier, plan.data_module, ckpt_path=file, weights_only=True if file else None)
    return plan.last.seconds + time.perf_counter() - started


def importing_ahead(plan: Plan) -> EpochSink:
    """Return what imports the libraries of a run's end beside its second epoch, where an epoch takes some time."""
    settings = plan.settings

    def listen(epoch: int, metrics: Mapping[str, float]) -> None:
        if epoch == 1 and metrics[Metric.EPOCH_SECONDS] > LONG:
            drawn_here = settings.figures.enabled and not can_be_copied()
            lean.import_ahead([*(EXPORT if settings.tracking.log_model else ()), *(DRAWING if drawn_here else ())])

    return listen


def test_best(plan: Plan, run: TrackedRun | None = None, door: Door = "train") -> tuple[dict[str, float], int]:
    """Load the best checkpoint's weights and return the metrics of the test split, which is measured here, once a run.

    Also returns the epoch, counted from 1, after which the checkpoint was written. Of a sealed dataset validation is
    measured instead, for its predictions; there are no metrics then. The run, which the first process has, keeps first
    that the test split is read. Measured in float32 whatever precision the training has: that is the model which
    evaluate.py rebuilds and export.py writes.

    Not through the trainer's `ckpt_path`: where weights are averaged, that restores those training would continue with,
    and not the averaged ones, which were validated.
    """
    plan.classifier.float()
    best_epoch = 0
    if plan.trainer.is_global_zero:  # to the others, who may be on a machine without the file, Lightning sends weights
        try:
            content = torch.load(plan.checkpoint.best_model_path, map_location="cpu", weights_only=True)
        except FileNotFoundError as error:
            raise Incomplete(
                f"the best checkpoint is no longer there, somebody has removed it: {error.filename}; the training has "
                "ended, but there is nothing to test"
            ) from error
        plan.classifier.load_state_dict(content["state_dict"])
        best_epoch = int(content["epoch"]) + 1
    if run is not None and not plan.data.sealed:
        data, settings = plan.data, plan.settings.digest(plan.start.digest)
        reading = Reading(door, data.name, data.digest, data.test_digest, len(data.test_labels), settings)
        run.set_tags(reading.tags())
    with in_single_precision(plan.trainer):
        if plan.data.sealed:
            if plan.data_module.sizes["validation"]:
                plan.trainer.validate(plan.classifier, plan.data_module, verbose=False)
            return {}, best_epoch
        tested = plan.trainer.test(plan.classifier, plan.data_module, verbose=False)[0]
    return {name: value for name, value in tested.items() if name.startswith("test/")}, best_epoch
