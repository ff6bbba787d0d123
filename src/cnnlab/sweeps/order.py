"""What was asked of a sweep: everything that can be refused before it starts is refused here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mlflow.entities import DatasetInput
from omegaconf import DictConfig, OmegaConf

from cnnlab.beginning import lineage
from cnnlab.choices import became
from cnnlab.errors import UsageError, collect
from cnnlab.fused.fitting import OWN, at_once, obstacle
from cnnlab.job import Job
from cnnlab.plan import make_plan, read_training
from cnnlab.settings.base import Own
from cnnlab.settings.commands import Trainer, Training, is_choice
from cnnlab.settings.read import examine, read, resolve
from cnnlab.settings.sweep import Sweep
from cnnlab.sweeps.configurations import Configurations
from cnnlab.sweeps.devices import check_devices, fixed, spread
from cnnlab.sweeps.first import known_configurations
from cnnlab.sweeps.goals import Goals, read_goals
from cnnlab.sweeps.grammar import FIXED, read_space
from cnnlab.sweeps.methods import GRID, NO_PRUNER, build_pruner, build_sampler, check_seeds, grid
from cnnlab.sweeps.setup import DatasetCache
from cnnlab.sweeps.space import Space, section
from cnnlab.sweeps.storage import check_storage
from cnnlab.tracking.schema import MEASURES, MONITORS, Direction
from cnnlab.weights import WeightsCache

SWEEP_SECTIONS = ("sweep", "search", "sampler", "pruner")
# Where and how fast a trial runs, and what is drawn of it, does not change what it finds.
INDIFFERENT = (
    "dataset.root",
    "dataset.download",
    "dataset.sealed",
    "dataset.max_pixels",
    "dataset.memory_limit",
    "threads",
    "trainer.accelerator",
    "trainer.compile",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
)
APART = ("tracking", "figures", "evaluation_batch_size", "loggers", "metrics")
HOW = ("figures", "trainer")  # groups whose options are no part of what is trained


@dataclass(frozen=True)
class Order:
    """A checked sweep: its settings, what it trains, what it searches for and among what, and by which methods.

    `job` is what the launch was called with; `configurations` the training's, as composed and under other options,
    `training` the settings of the first; `first` what the first trials are given; `weights` is the digest of those that
    every trial begins with; `notes` say what was loaded and adapted.
    """

    job: Job
    settings: Sweep
    configurations: Configurations
    training: Training
    sampler: Own
    pruner: Own
    space: Space
    goals: Goals
    first: Sequence[Mapping[str, object]]
    weights: str | None
    notes: tuple[str, ...]
    dataset: DatasetInput  # as MLflow names it

    def definition(self) -> dict[str, dict[str, object]]:
        """Return what makes the trials of a study comparable; plain values, by section."""
        searched = self.space.grammar()
        fixed = {
            key: value
            for key, value in self.training.flat().items()
            if key.split(".")[0] not in APART and is_choice(key, value, {*INDIFFERENT, *searched})
        }
        if self.weights is not None and "init_from" not in searched:
            fixed["init_from"] = self.weights
        objective: dict[str, object] = {
            "sweep.objective": list(self.goals.names),
            "sweep.seeds": self.settings.seeds,
        }
        if self.settings.folds:
            objective["sweep.folds"] = True
        limits = self.settings.constraints.limits
        objective |= {f"sweep.constraints.{name}": limit for name, limit in limits.items()}
        return {"search": dict(searched), "objective": objective, "config": fixed}


def read_order(job: Job) -> Order:
    """Check the composed configuration of a sweep and return it in parts.

    Builds the network at both ends of every searched range. Raises UsageError with every problem found.
    """
    whole = resolve(job.config)
    asked = examine(Trainer, section(whole, "trainer")).settings
    job = spread(job, section(whole, "sweep").get("devices_per_trial"))
    folder, base = job.folder, without_sweep(job)
    values = resolve(base)
    sweep = examine(Sweep, {"name": default_name(job, values), **given(section(whole, "sweep"))}, "sweep.")
    problems = list(sweep.problems)
    storage = section(whole, "sweep").get("storage")
    problems += check_storage(storage) if isinstance(storage, str) else []
    for key in ("like", "resume"):
        if values.get(key) is not None:
            problems.append(f"{key}={values[key]}: only train.py starts from another run")
    data, weights = DatasetCache(test=False), WeightsCache()
    training = collect(problems, read_training, values, data)
    plan = None
    if training is not None:
        plan = collect(problems, make_plan, training, folder, data, weights)
    if training is not None and plan is not None:  # what `auto` becomes, it becomes for all trials
        job = fixed(job, became(training.trainer, plan.settings.trainer))
        base = without_sweep(job)
        known = training.trainer.model_copy(update={"precision": plan.settings.trainer.precision})
        training = training.model_copy(update={"trainer": known})
    if training is not None and training.tracking.offline:
        problems.append(
            "tracking.offline=true is for train.py: a sweep reads its runs again; leave it out, or keep them on this "
            "machine with tracking.uri=sqlite:///FILE"
        )
    if training is not None and training.tracking.registers and sweep.settings and not sweep.settings.final_seeds:
        problems.append("tracking.register=true registers the winner, but sweep.final_seeds=0 trains none")
    problems += check_devices(asked, "sweep.n_workers", "sweep.devices_per_trial") if asked else []
    if training and sweep.settings and sweep.settings.folds and training.dataset.validation.method != "fold":
        problems.append("sweep.folds=true needs dataset.validation.method=fold")
    goals = None
    metrics = named_metrics(values)
    if training is not None or metrics is not None:  # else nobody knows what is measured
        monitors = training.monitors if training else MONITORS | (metrics or {})
        goals = collect(problems, read_goals, section(whole, "sweep").get("objective"), values, monitors)
    groups = {
        name: choice
        for name, choice in job.choices.items()
        if name in Training.model_fields and name not in (*FIXED, *HOW)
    }
    configurations = Configurations(base, job.overrides, job.own_folder, groups)
    space = collect(problems, read_space, section(whole, "search"), configurations)
    sampler = collect(problems, read, Own, section(whole, "sampler"), "sampler.")
    pruner = collect(problems, read, Own, section(whole, "pruner"), "pruner.")
    if goals and space and sampler:
        collect(problems, build_sampler, sampler, space, goals)
    if pruner:
        collect(problems, build_pruner, pruner)
        problems += check_seeds(pruner, sweep.settings.seeds) if sweep.settings else []
    first = None
    if space and sweep.settings:
        first = collect(problems, known_configurations, sweep.settings.first, space, configurations)
    if not problems and space:
        problems += check_corners(configurations, space, data, weights, folder)
    if problems:
        raise UsageError(*problems)
    assert goals and space and training and plan and sampler and pruner and sweep.settings and first is not None
    parts = (job, sweep.settings, configurations, training, sampler, pruner, space, goals, first)
    return adapted(Order(*parts, plan.start.digest, plan.start.lines, lineage(plan, plan.data.training_digest)))


def without_sweep(job: Job) -> DictConfig:
    """Return the part of a sweep's configuration that train.py has, too."""
    nodes = job.config.items_ex(resolve=False)
    return OmegaConf.create({key: node for key, node in nodes if key not in SWEEP_SECTIONS})


def named_metrics(values: Mapping[str, object]) -> dict[str, Direction] | None:
    """Return the monitors of a configuration's `metrics`; None where they are not all names of metrics."""
    named = values.get("metrics")
    known = {str(name): direction for name, direction in MEASURES.items()}
    if not isinstance(named, list) or not all(isinstance(name, str) and name in known for name in named):
        return None
    return {f"val/{name}": known[name] for name in named}


def default_name(job: Job, values: Mapping[str, object]) -> str:
    """Return the name of a study that was given none: dataset, model and search."""
    named = [section(values, group).get("name") for group in ("dataset", "model")]
    return "-".join(str(name) for name in [*named, job.choices.get("search")] if name)


def given(values: Mapping[str, object]) -> dict[str, object]:
    """Return the `sweep` section without a name that is null."""
    return {key: value for key, value in values.items() if key != "name" or value is not None}


def adapted(order: Order) -> Order:
    """Return the order with what follows from it: no pruning for two objectives, no more trials than a grid has."""
    settings, pruner, notes = order.settings, order.pruner, list(order.notes)
    if not order.goals.single and pruner.target != NO_PRUNER:
        pruner = read(Own, {"_target_": NO_PRUNER})
        notes.append("pruning is off: with two objectives no trial is clearly worse before it ends")
    if order.sampler.target == GRID:
        points = math.prod(len(choices) for choices in grid(order.space).values())
        if points < settings.n_trials:
            settings = settings.model_copy(update={"n_trials": points})
            notes.append(f"the grid has {points} points: sweep.n_trials={points}")
    notes += fused_notes(settings, order.training, list(order.space.grammar()))
    return replace(order, settings=settings, pruner=pruner, notes=tuple(notes))


def fused_notes(settings: Sweep, training: Training, searched: Sequence[str]) -> list[str]:
    """Return a line that says which trials train together; nothing where none was asked to."""
    if settings.fused in (None, 1):
        return []
    asked = f"sweep.fused={settings.fused}"
    if (reason := obstacle(training)) is not None:
        return [f"{asked} has no effect with {reason}: each trial trains by itself"]
    if at_once(settings.fused, training) == 1:
        return [f"{asked}: each trial trains by itself, since convolutions were measured to gain nothing on a CPU"]
    apart = [key for key in searched if key not in OWN]
    return [f"{asked}: of those trials that have the same {', '.join(apart)}"] if apart else []


def check_corners(
    configurations: Configurations, space: Space, data: DatasetCache, weights: WeightsCache, folder: Path
) -> list[str]:
    """Return what is wrong with the configurations at the ends of the space: each line names the values it is about."""
    problems: dict[str, str] = {}
    for corner in space.corners():
        chosen = " ".join(f"{key}={value}".replace(" ", "") for key, value in corner.items())
        try:
            make_plan(read_training(resolve(configurations.having(corner)), data), folder, data, weights)
        except UsageError as error:
            for line in error.problems:
                problems.setdefault(line, f"search allows {chosen}, but {line}")
    return list(problems.values())
