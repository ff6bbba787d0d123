"""The `sweep` section, and the order that a launch gives its workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, Strict

from cnnlab.errors import refused
from cnnlab.settings.base import Count, Own, Positive, Says, Section, Text, Whole

Names = Annotated[tuple[str, ...], Strict(False)]


class Constraints(Section):
    """What a network may cost at most; one that costs more is not trained, and the sampler learns that."""

    parameters: Count | None = Field(description="weights and biases at most; null: any number")
    latency: Positive | None = Field(description="median milliseconds for one image at most; null: any")

    @property
    def limits(self) -> dict[str, float]:
        """Return what is limited, by its name."""
        return {name: float(limit) for name, limit in self if limit is not None}


class Sweep(Section):
    """What one study is, and how it is worked on."""

    name: Text = Field(
        description="the study; the same name continues it, on this machine and on others; null: DATASET-MODEL-SEARCH"
    )
    n_trials: Count = Field(description="of the study in all, over every launch and machine")
    n_workers: Count = Field(description="processes on this machine")
    fused: Annotated[Count | Literal["auto"] | None, Says("a number of trials, auto or null")] = Field(
        description="trials that a worker trains as one program, where they have one shape; null: none"
    )
    devices_per_trial: Count = Field(
        description="that each training is spread over, by ddp: a worker has a group of GPUs, or so many CPU processes"
    )
    objective: Annotated[
        str | Names, Says("val/acc, val/loss, val/objective, val/NAME of metrics; or two, one a cost")
    ] = Field(
        description="what is optimized: val/acc, val/loss, val/objective; or two of them, such as [val/acc,parameters]"
    )
    seeds: Count = Field(description="trainings a trial; its value is their mean")
    folds: bool = Field(description="true: a training a fold instead, of dataset.validation.method=fold")
    final_seeds: Whole = Field(description="trainings of the winner, each with another seed, tested once each")
    minutes: Positive | None = Field(
        description="after which this launch starts no more trials and queues those under way again; null: no deadline"
    )
    first: Annotated[tuple[dict[str, object], ...], Strict(False), Says("a list such as [{optimizer.lr:0.01},{}]")] = (
        Field(description="configurations tried before the sampler chooses; what one does not name is as configured")
    )
    constraints: Constraints
    storage: Text = Field(description="sqlite:///FILE for one machine, postgresql://user:password@host/database")
    heartbeat: Count = Field(description="seconds between two signs of life of a trial")
    grace: Count = Field(description="seconds without one after which a trial of another machine counts as dead")
    retries: Whole = Field(description="of a trial whose process died; then it counts as failed")
    stop_after_failures: Count = Field(description="stop when that many trials ended and every one of them failed")

    def conflicts(self, path: str) -> Iterator[str]:
        if self.grace <= self.heartbeat:
            allowed = f"more than {path}heartbeat={self.heartbeat}, or every trial would count as dead"
            yield refused(f"{path}grace", self.grace, allowed)
        if self.fused not in (None, 1) and self.devices_per_trial > 1:
            fused = refused(f"{path}fused", self.fused, "null or 1")
            yield f"{fused} beside {path}devices_per_trial={self.devices_per_trial}: it trains on one device"
        if self.folds and self.seeds > 1:
            yield f"{path}folds=true trains a trial once a fold, but {path}seeds={self.seeds}; leave one of them out"


class Search(Section):
    """How the next parameters are chosen and bad trials ended."""

    space: dict[str, str] = Field(description="Hydra's sweep grammar, by searched key")
    sampler: Own = Field(description="one of Optuna's samplers")
    pruner: Own = Field(description="one of Optuna's pruners")
    reseed: bool = Field(description="whether this worker draws its own random numbers")


class Contender(Section):
    """One side of a comparison."""

    config: str = Field(description="its training configuration as YAML, its interpolations unresolved")
    overrides: Names = Field(description="what it changed of train.yaml")
    experiment: str | None = Field(description="the recipe it chose")


class WorkerOrder(Section):
    """What a worker needs to know; sent as JSON to its standard input, since it may hold a password."""

    study: str = Field(description="Optuna's name of the study")
    sweep: Sweep = Field(description="the `sweep` section")
    goals: Names = Field(description="the objectives by name")
    upward: Names = Field(description="those of them of which more is better")
    total: Count | None = Field(description="trials the study may have; null: those that are queued, and no more")
    search: Search | None = Field(description="null: trials are trainings of the winner, which differ in their seed")
    config: str = Field(description="the training configuration as YAML, its interpolations unresolved")
    overrides: Names = Field(description="what the command changed of train.yaml")
    choices: dict[str, str] = Field(description="what the command chose of each group that may be searched")
    contenders: dict[str, Contender] = Field(
        description="of a comparison: its sides, which trials train in place of a winner; empty for a sweep"
    )
    waits: bool = Field(description="whether the worker waits for more trials until it is stopped")
    chosen: Names = Field(description="keys of the configuration whose values the search has found; of a winner")
    own_folder: str | None = Field(description="the user's own folder of configuration: their code lies about there")
    parent_run: str = Field(description="MLflow run of the sweep")
    folder: str = Field(description="where checkpoints and pictures go")
    threads: Count = Field(description="CPU threads of the worker")
    fused: Count = Field(default=1, description="trials that the worker takes at once, to train them as one program")
    since: Whole = Field(description="trials the study had before this launch")
