"""Everything about a sweep that can be refused before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cnnlab.config import SECTIONS, flatten, resolve, text, whole
from cnnlab.errors import UsageError, collect, unknown
from cnnlab.plan import make_plan
from cnnlab.sweep.goals import Goals, read_goals
from cnnlab.sweep.locks import check_storage
from cnnlab.sweep.methods import GRID, build_pruner, build_sampler, grid
from cnnlab.sweep.space import Space, apply, read_space
from cnnlab.sweep.trial import DataInMemory

OWN = ("sweep", "search", "sampler", "pruner")
RULES = {
    "name": text,
    "n_trials": whole(1),
    "n_workers": whole(1),
    "seeds": whole(1),
    "final_seeds": whole(0),
    "storage": text,
    "heartbeat": whole(1),
    "grace": whole(1),
    "retries": whole(0),
    "stop_after_failures": whole(1),
}
# Where and how fast a trial runs, and what is drawn of it, does not change what it finds.
INDIFFERENT = (
    "dataset.root",
    "dataset.download",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
)


@dataclass(frozen=True)
class Order:
    """A checked sweep: its settings, its training configuration, and what it searches for and among what."""

    settings: dict[str, Any]
    config: DictConfig
    values: dict[str, Any]
    search: dict[str, Any]
    sampler: dict[str, Any]
    pruner: dict[str, Any]
    space: Space
    goals: Goals
    notes: tuple[str, ...]

    def definition(self) -> dict[str, dict[str, Any]]:
        """Return what makes the trials of a study comparable; plain values, by section."""
        searched = self.space.grammar()
        known = {name: self.values[name] for name in ("seed", "batch_size", *SECTIONS) if name in self.values}
        fixed = {
            key: value
            for key, value in flatten(known).items()
            if key.split(".")[0] not in ("tracking", "figures") and key not in INDIFFERENT and key not in searched
        }
        objective = {"sweep.objective": list(self.goals.names), "sweep.seeds": self.settings["seeds"]}
        return {"search": searched, "objective": objective, "config": fixed}


def read_order(config: DictConfig, folder: Path) -> Order:
    """Check a composed `sweep` configuration and return it in parts.

    Builds the network at both ends of every searched range. Raises UsageError with every problem found.
    """
    whole_config = resolve(config)
    settings = whole_config["sweep"]
    base = OmegaConf.create({key: node for key, node in config.items_ex(resolve=False) if key not in OWN})
    values = resolve(base)
    problems = check_settings(settings)
    data = DataInMemory(test=False)
    collect(problems, make_plan, values, folder, data)
    problems += check_devices(values["trainer"])
    goals = collect(problems, read_goals, settings["objective"], values)
    space = collect(problems, read_space, whole_config.get("search"), base)
    if goals and space:
        collect(problems, build_sampler, whole_config["sampler"], space, goals)
    collect(problems, build_pruner, whole_config["pruner"])
    if not problems and space:
        problems += check_corners(base, space, data, folder)
    if problems:
        raise UsageError(*problems)
    assert goals and space
    notes = []
    pruner = whole_config["pruner"]
    if not goals.single and pruner["_target_"] != NO_PRUNER:
        pruner = {"_target_": NO_PRUNER}
        notes.append("pruning is off: with two objectives no trial is clearly worse before it ends")
    if whole_config["sampler"]["_target_"] == GRID:
        size = 1
        for choices in grid(space).values():
            size *= len(choices)
        if size < settings["n_trials"]:
            settings = settings | {"n_trials": size}
            notes.append(f"the grid has {size} points: sweep.n_trials={size}")
    return Order(
        settings, base, values, whole_config["search"], whole_config["sampler"], pruner, space, goals, tuple(notes)
    )


NO_PRUNER = "optuna.pruners.NopPruner"


def check_settings(settings: Mapping[str, Any]) -> list[str]:
    """Return one line for each value of the `sweep` section that is out of its range or unknown."""
    known = (*RULES, "objective")
    problems = [unknown("sweep key", key, known) for key in settings if key not in known]
    for key, rule in RULES.items():
        value = settings.get(key)
        if (allowed := rule(value)) is not None:
            problems.append(f"sweep.{key}={value!r} is not allowed; sweep.{key} takes {allowed}")
    if isinstance(settings.get("storage"), str):
        problems += check_storage(settings["storage"])
    if not problems and settings["grace"] <= settings["heartbeat"]:
        problems.append(
            f"sweep.grace={settings['grace']} is not longer than sweep.heartbeat={settings['heartbeat']}: "
            "every trial would count as dead"
        )
    return problems


def check_devices(trainer: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a trainer that would spread one trial over several devices."""
    return [
        f"trainer.{key}={trainer[key]!r}: a sweep trains every trial on one device, the others take other trials; "
        f"trainer.{key} takes 1, and sweep.n_workers the number of devices"
        for key in ("devices", "num_nodes")
        if trainer.get(key, 1) not in (1, "1", "auto")
    ]


def check_corners(config: DictConfig, space: Space, data: DataInMemory, folder: Path) -> list[str]:
    """Return what is wrong with the configurations at the ends of the space: each line names the values it is about."""
    problems: dict[str, str] = {}
    for corner in space.corners():
        chosen = " ".join(f"{key}={value}".replace(" ", "") for key, value in corner.items())
        try:
            make_plan(resolve(apply(config, corner)), folder, data)
        except UsageError as error:
            for line in error.problems:
                problems.setdefault(line, f"search allows {chosen}, but {line}")
    return list(problems.values())
