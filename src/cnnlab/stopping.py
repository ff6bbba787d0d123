"""What is kept of a run that is stopped, and how one goes on from there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from mlflow.exceptions import MlflowException

from cnnlab.describing import keep_curves
from cnnlab.errors import UNREADABLE, Diverged
from cnnlab.last_checkpoint import OURS
from cnnlab.plan import Plan
from cnnlab.signals import Interruption, deferred
from cnnlab.slurm import requeue
from cnnlab.start import typed
from cnnlab.tracking.descriptions import code
from cnnlab.tracking.history import at_epoch
from cnnlab.tracking.run import TrackedRun
from cnnlab.tracking.schema import BEST, Metric


@contextmanager
def keeping_best(run: TrackedRun, plan: Plan) -> Iterator[None]:
    """Keep the best checkpoint so far of a run that is stopped or diverges in this block, and note on the exception
    what it is.

    A second signal meanwhile asks for nothing else, and does not tear what is being written.
    """
    try:
        yield
    except Diverged as error:
        for line in what_is_kept(run, plan, "FAILED"):
            error.add_note(line)
        raise
    except Interruption as interruption:
        with suppress(Interruption), deferred():
            kept = what_is_kept(run, plan, "KILLED")
            for line in (*kept, *requeue(interruption.name), f"go on with it: {typed('train')} resume={run.run_id}"):
                interruption.add_note(line)
        raise


def what_is_kept(run: TrackedRun, plan: Plan, status: str) -> list[str]:
    """Keep the best checkpoint and its metrics; say it, and the command that measures it."""
    ended = f"MLflow run {run.run_id} is {status}"
    found = best_checkpoint(plan)
    if found is None:
        return [f"{ended}; no epoch had ended, so no checkpoint is kept"]
    path, epoch = found
    try:
        run.stop_sampling()
        history = run.history(plan.settings.chosen_monitors)
        reached, trained = at_epoch(history, epoch), max(history[Metric.TRAIN_LOSS], default=0)
        run.log_results(reached | {Metric.BEST_EPOCH: epoch, Metric.EPOCHS: trained})
        run.log_file(path, "checkpoints")
    except (OSError, MlflowException):  # the store is out of reach or full; the run is stopped all the same
        return [f"{ended}; the checkpoint of epoch {epoch} is not in the store, but there: {path}"]
    measure = f"{typed('evaluate')} run={run.run_id}{' split=val' if plan.data.sealed else ''}"
    watched = plan.checkpoint.monitor
    value = reached.get(f"{BEST}{watched}")
    score = f" ({watched} {value:.4f})" if value is not None else ""
    again = f"{typed('train')} resume={run.run_id}" if status == "KILLED" else ""
    run.story.append(f"kept is the checkpoint of epoch {epoch} of {trained}{score}")
    run.story.append(code(again, measure))
    with suppress(OSError, MlflowException):
        run.story.append(keep_curves(run, plan, history, epoch))
    return [
        f"{ended}; kept is the checkpoint of epoch {epoch}{score}",
        f"measure it: {measure}",
    ]


def best_checkpoint(plan: Plan) -> tuple[Path, int] | None:
    """Return the best checkpoint that was written whole, and its epoch, counted from 1; None where there is none.

    Stopped between naming a checkpoint and writing it, the one before is still there.
    """
    folder = Path(str(plan.checkpoint.dirpath))
    best = [path for path in folder.glob("*.ckpt") if path.name not in OURS]
    written = sorted(best, key=lambda path: path.stat().st_mtime, reverse=True)
    for path in (Path(plan.checkpoint.best_model_path), *written):
        with suppress(*UNREADABLE):
            return path, int(torch.load(path, map_location="cpu", weights_only=True)["epoch"]) + 1
    return None
