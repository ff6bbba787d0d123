"""A training that goes on: resume=RUN, from the last epoch that a stopped run has finished, in the same MLflow run.

It is the run's own training: its settings stay as they are, and what differs that cannot change it is said. A finished
run keeps its result; with a larger trainer.max_epochs another run goes on from where it ended.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import mlflow
from filelock import FileLock, Timeout
from mlflow.entities import Run
from omegaconf import OmegaConf

from cnnlab import like, process
from cnnlab.cli import remove_empty
from cnnlab.errors import UsageError, shown
from cnnlab.job import Job
from cnnlab.last_checkpoint import State, find_state, remove_later
from cnnlab.plan import Plan
from cnnlab.settings.base import flatten
from cnnlab.settings.commands import Training
from cnnlab.settings.merging import known
from cnnlab.slurm import requeued_run
from cnnlab.start import typed
from cnnlab.tracking.find import LAST, find_run, open_client, results
from cnnlab.tracking.schema import VERSION, Tag
from cnnlab.tracking.stale import tell_stale_runs

KEY = "resume"
EPOCHS = "trainer.max_epochs"
# What may differ from the run: where things are and how fast they are done.
FREE = (
    "figures",
    "tracking",
    "dataset.root",
    "dataset.download",
    "evaluation_batch_size",
    "threads",
    "trainer.compile",
    *like.SOURCES,
)
DEVICES = ("trainer.accelerator", "trainer.devices", "trainer.strategy", "trainer.num_nodes")
WITH_LENGTH = ("cosine", "onecycle")  # schedules that end with the training they were made for
TOLD = {
    Tag.COMMIT: "commit",
    Tag.SOURCE: "cnnlab's code",
    Tag.DEVICE: "device",
    Tag.DEVICE_NAME: "device",
    Tag.THREADS: "CPU threads",
}
GONE_ON = "CNNLAB_RESUMES"  # environment: the run that the first process of a training has chosen, for the others


@dataclass(frozen=True)
class Continuation:
    """The run that goes on, and its `state`: None where none of its epochs had ended.

    `extends`: the run has finished, and another one goes on in its own folder.
    """

    run: Run
    folder: Path
    state: State | None
    problems: list[str]
    extends: bool

    @property
    def run_id(self) -> str | None:
        """The run to open again; None for a new one."""
        return None if self.extends else self.run.info.run_id

    @property
    def tags(self) -> dict[str, str]:
        """Return what is new about the run; what it was begun with stays."""
        if self.extends:
            return {Tag.EXTENDS: self.run.info.run_id}
        before = self.run.data.tags.get(Tag.RESUMED)
        epoch = str(self.state.epoch if self.state else 0)
        return {Tag.RESUMED: f"{before}, {epoch}" if before else epoch}

    def check(self, plan: Plan) -> None:
        """Raise UsageError where the plan's images or network are not those of the run."""
        asked = f"{KEY}={self.run.info.run_id}"
        images = self.run.data.tags.get(Tag.TRAINING_IMAGES)
        if images not in (None, plan.data.training_digest):
            raise UsageError(
                f"{asked} was trained on other images of {plan.data.name}: theirs have the digest {images}"
            )
        if self.state is None:
            return
        kept = self.state.content["state_dict"]
        assert isinstance(kept, Mapping)
        old = {name: tuple(value.shape) for name, value in kept.items()}
        new = {name: tuple(value.shape) for name, value in plan.classifier.state_dict().items()}
        differing = [
            f"{name} {list(new[name]) if name in new else 'not there'}, in the run "
            f"{list(old[name]) if name in old else 'not there'}"
            for name in {**new, **old}
            if old.get(name) != new.get(name)
        ]
        if differing:
            raise UsageError(f"{asked} has another network: {'; '.join(differing)}")

    def describe(self, plan: Plan, new: Mapping[str, str]) -> list[str]:
        """Return from where the run goes on, and in another line what differs that may change the last digits.

        `new` are the tags that a run would be begun with now.
        """
        name = f"{self.run.info.run_id} ({self.run.info.run_name})"
        lines = [*self.problems]
        if self.state is None:
            lines.append(f"resume {name}: none of its epochs had ended, it begins anew")
        else:
            verb = "extend" if self.extends else "resume"
            lines.append(f"{verb} {name}: {epochs(self.state.epoch)} of {plan.trainer.max_epochs} are done")
        old = self.run.data.tags
        versions = {tag: tag.removeprefix(VERSION) for tag in new if tag.startswith(VERSION)}
        said = versions | {str(tag): text for tag, text in TOLD.items()}
        differing = [f"{said[tag]} {old[tag]} -> {new[tag]}" for tag in said if tag in old and old[tag] != new.get(tag)]
        if differing:
            lines.append(f"not as the run began, so it may end otherwise: {', '.join(differing)}")
        return lines

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the run's folder, so that two commands do not go on with it; put its checkpoints as the state has them.

        Raises UsageError where another process goes on with the run.
        """
        checkpoints = self.folder / "checkpoints"
        if self.extends:
            assert self.state is not None and self.state.best is not None
            checkpoints.mkdir(parents=True)
            shutil.copy2(self.state.best, checkpoints)
            yield
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / ".resumed.lock", timeout=0):
                remove_later(checkpoints, self.state)
                yield
        except Timeout as error:
            raise UsageError(f"{KEY}={self.run.info.run_id}: another process goes on with it just now") from error


def epochs(number: int) -> str:
    """Return a number of epochs in words."""
    return f"{number} epoch{'s' if number != 1 else ''}"


def start(job: Job) -> tuple[Job, Training, like.Origin | Continuation | None]:
    """Return a job of train.py, its settings, and the run that it starts like or goes on with, whose settings they are.

    The folder of a job that goes on is the run's. Raises UsageError for a run that cannot go on, and for settings that
    are not the run's.
    """
    wanted = OmegaConf.select(job.config, KEY)
    if wanted is None and (requeued := requeued_run(job)) is None:
        return like.start(job)
    wanted = str(wanted or requeued)
    both = [key for key in (like.KEY, "init_from") if OmegaConf.select(job.config, key) is not None]
    if both:
        raise UsageError(f"{KEY}={wanted} and {both[0]} both say where to start; give one")
    like.refuse_experiment(job, KEY, wanted)
    client = open_client(str(OmegaConf.select(job.config, "tracking.uri")))
    if not process.rank():
        tell_stale_runs(str(OmegaConf.select(job.config, "tracking.uri")))
    run = chosen(client, os.environ.get(GONE_ON, wanted) if process.rank() else wanted, job)
    os.environ[GONE_ON] = run.info.run_id
    resumed, settings, origin = like.under(client, run, job, KEY)
    extends = run.info.status == "FINISHED"
    check_settings(run, flatten(origin.settings), settings, origin.added, extends=extends)
    threads = run.data.tags.get(Tag.THREADS)
    if settings.threads is None and threads:
        settings = settings.model_copy(update={"threads": int(threads)})  # so that it ends with the same digits
    folder = run.data.tags.get(Tag.FOLDER)
    if folder is None:
        raise UsageError(f"{KEY}={run.info.run_id} is of an older version, which kept no state to go on from")
    state, problems = find_state(Path(folder) / "checkpoints")
    if extends and state is None:
        raise UsageError(
            f"{KEY}={run.info.run_id}: its state is no longer in {folder}; {'; '.join(problems) or 'no last.ckpt'}"
        )
    if extends and state and not (state.best and state.best.is_file()):
        raise UsageError(
            f"{KEY}={run.info.run_id}: its best checkpoint is no longer in {folder}/checkpoints; to train longer begin "
            f"anew: {typed('train')} like={run.info.run_id} {EPOCHS}={settings.trainer.max_epochs}"
        )
    continuation = Continuation(run, job.folder if extends else Path(folder), state, problems, extends)
    if not extends:
        remove_empty(job.folder)
    return replace(resumed, folder=continuation.folder), settings, continuation


def chosen(client: mlflow.MlflowClient, wanted: str, job: Job) -> Run:
    """Return the run that is to go on, for 'last' the latest of train.py that has not finished.

    Raises UsageError for a run that is unknown, still runs, or belongs to a sweep or comparison.
    """
    first = process.rank() == 0
    if wanted == LAST:
        stopped = ("KILLED", "FAILED") if first else ("KILLED", "FAILED", "RUNNING")
        found = [run for run in results() if run.info.status in stopped and Tag.ROLE not in run.data.tags]
        if not found:
            raise UsageError(f"{KEY}={LAST}: every run of train.py has finished")
        return found[0]
    run = find_run(client, wanted, key=KEY, besides=job.multirun)
    asked = f"{KEY}={run.info.run_id} ({run.info.run_name})"
    if Tag.ROLE in run.data.tags:
        raise UsageError(f"{asked} belongs to a {run.data.tags[Tag.ROLE]}; the command that began it goes on with it")
    if run.info.status == "RUNNING" and first:
        raise UsageError(f"{asked} is running on {run.data.tags.get(Tag.HOST, 'another machine')}; stop it first")
    return run


def check_settings(
    run: Run, old: Mapping[str, object], settings: Training, added: Mapping[str, object], *, extends: bool
) -> None:
    """Raise UsageError for settings that are not the run's, and for an extension that is none.

    `added` are those that the run's version did not have.
    """
    asked = f"{KEY}={run.info.run_id}"
    new = settings.flat()
    before, now = old.get(EPOCHS), new[EPOCHS]
    longer = isinstance(before, int) and isinstance(now, int) and 0 < before < now
    if extends and not longer:
        raise UsageError(
            f"{asked} ({run.info.run_name}) has finished; to go on beyond its {before} epochs give a larger {EPOCHS}; "
            f"to measure it: {typed('evaluate')} run={run.info.run_id}"
        )
    if extends and settings.scheduler.name in WITH_LENGTH:
        raise UsageError(
            f"{asked}: its learning rate has come to the end of scheduler={settings.scheduler.name}; to train longer "
            f"begin anew: {typed('train')} like={run.info.run_id} {EPOCHS}={now}"
        )
    free = [*FREE, *DEVICES, *([EPOCHS] if extends else [])]
    differing = [
        f"{key}={shown(new.get(key))}, in the run {shown(old.get(key))}"
        for key in dict.fromkeys([*new, *old])
        if key not in added and old.get(key) != new.get(key) and not any(known(key, [part]) for part in free)
    ]
    if differing:
        raise UsageError(
            f"{asked} goes on as it began: {'; '.join(differing)}; for other settings begin another run: "
            f"{typed('train')} like={run.info.run_id}"
        )
