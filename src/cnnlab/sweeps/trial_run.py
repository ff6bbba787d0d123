"""What the MLflow run of a trial is told, beside its epochs."""

from __future__ import annotations

from collections.abc import Mapping

import optuna

from cnnlab.beginning import lineage, plan_tags
from cnnlab.plan import Plan
from cnnlab.sweeps.setup import place_tags
from cnnlab.sweeps.storage import run_name
from cnnlab.tracking.colors import QUIET
from cnnlab.tracking.descriptions import command, description
from cnnlab.tracking.run import TrackedRun
from cnnlab.tracking.schema import BEST, COST, VALIDATION, Metric, Tag
from cnnlab.tracking.shared_rows import log_dataset

COMPILE = "trainer.compile"
OF_RESULTS = (Tag.SETTINGS, Tag.THREADS)  # tags; of the second a trial has its own


def record_plan(run: TrackedRun, plan: Plan, compiled: str) -> None:
    """Keep of a trial what a run of train.py keeps, but for the tag that marks a result."""
    tags = plan_tags(plan) | place_tags(str(plan.trainer.strategy.root_device))
    run.log_parameters({COMPILE: compiled}, {name: value for name, value in tags.items() if name not in OF_RESULTS})
    log_dataset(run.client, run.run_id, lineage(plan, plan.data.training_digest))


def ended_tags(trial: optuna.Trial, state: str, run: TrackedRun, said: str) -> dict[str, str]:
    """Return what is told of a trial that ended in a state; MLflow shows any other than complete as if it were."""
    tags: dict[str, str] = {Tag.TRIAL_STATE: state}
    if state != "complete":
        tags |= {Tag.NAME: f"{run_name(trial)}, {state}", Tag.COLOR: QUIET}
        said = f"{state}: {said}"
    return tags | {str(Tag.NOTE): description(said, command(run.tags))}


def reached_line(measured: Mapping[str, float]) -> str:
    """Return what a trial reached, in a line."""
    name = Metric.VAL_ACCURACY if Metric.VAL_ACCURACY in measured else Metric.VAL_LOSS
    reached = f"{name} {measured[name]:.4f} at epoch" if name in measured else "best epoch"
    return f"{reached} {measured[Metric.BEST_EPOCH]:g} of {measured[Metric.EPOCHS]:g}"


def logged(name: str) -> str:
    """Return the name under which a run keeps what its trial measured."""
    if name.startswith(VALIDATION):
        return f"{BEST}{name}"
    return name if name in list(Metric) else f"{COST}{name}"
