"""The whole story of a sweep, top to bottom."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from cnnlab.config import flatten
from cnnlab.console import console, show_closing
from cnnlab.errors import UsageError
from cnnlab.sweep.check import Order, read_order
from cnnlab.sweep.final import SEED, VALUE
from cnnlab.sweep.goals import Goals
from cnnlab.sweep.launch import Crew, WorkersFailed, visible_devices
from cnnlab.sweep.locks import StudyLock, hidden
from cnnlab.sweep.plots import draw
from cnnlab.sweep.space import apply
from cnnlab.sweep.study import REASON, RESULT, agree, counted, hand_back, needs_database, open_study
from cnnlab.sweep.summary import open_parent, write_experiment, write_table
from cnnlab.sweep.view import View, count, cut_short, mean_and_spread, number, parameters
from cnnlab.tracking.provenance import code_tags, command_line
from cnnlab.tracking.run import TrackedRun

POLL = 0.5  # seconds between two looks at the study


@dataclass(frozen=True)
class Sweep:
    """A sweep under way: what was ordered, the study, and the MLflow run above its trials."""

    order: Order
    study: optuna.Study
    lock: StudyLock
    parent: TrackedRun
    folder: Path


def sweep(config: DictConfig) -> None:
    """Search as the composed configuration says, keep the outcome, and train and test the winner again.

    Nothing is written before everything is checked. The same call continues a study that was interrupted. Raises
    UsageError for a sweep that cannot run and for one that differs from the study it would continue.
    """
    started = time.perf_counter()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    folder = Path(HydraConfig.get().runtime.output_dir)
    order = read_order(config, folder)
    settings = order.settings
    study, lock = open_study(settings, settings["name"], order.goals.directions, settings["n_trials"])
    new = agree(study, lock, order.definition())
    command = command_line().replace(settings["storage"], hidden(settings["storage"]))
    tags = {"sweep.role": "sweep", "sweep.study": study.study_name, "command": command} | code_tags(Path.cwd())
    kept = {f"search.{key}": text for key, text in order.space.grammar().items()} | flatten(order.values)
    with needs_database(settings["storage"]), open_parent(order.values["tracking"], study, lock, tags, kept) as parent:
        this = Sweep(order, study, lock, parent, folder)
        hand_back(study, lock, settings["retries"])
        introduce(this, new)
        try:
            search(this, new)
        finally:
            summarize(this)
        finals = confirm(this)
    show_closing(closing_rows(this, finals, time.perf_counter() - started))


def introduce(this: Sweep, new: bool) -> None:
    """Say what will be searched, and what is there already."""
    order, settings = this.order, this.order.settings
    for key, text in order.space.grammar().items():
        console.print(f"{key}: {text}", soft_wrap=True, markup=False)
    for note in order.notes:
        console.print(note, soft_wrap=True)
    done = count(this.study.get_trials(deepcopy=False))["ended"]
    state = "new study" if new else f"continues with {done} of {settings['n_trials']} trials"
    console.print(
        f"{this.study.study_name}: {state}, {settings['n_workers']} workers, {hidden(settings['storage'])}; "
        f"run {this.parent.run_id}",
        soft_wrap=True,
    )


def search(this: Sweep, new: bool) -> None:
    """Let the workers run until the study has all its trials."""
    order = this.order
    pruner = {"sampler": order.sampler, "pruner": order.pruner, "search": order.search}
    details = {
        "final": False,
        "goals": order.goals.names,
        "total": order.settings["n_trials"],
        "reseed": not new,
    } | pruner
    attend(this, this.study, this.lock, order.goals, order.config, details, order.settings["n_workers"], "trials")


def confirm(this: Sweep) -> list[dict[str, Any]]:
    """Train the winner again with seeds the search has not seen; return the test metrics of each."""
    order, settings = this.order, this.order.settings
    best = order.goals.best(this.study.get_trials(deepcopy=False))
    wanted = settings["final_seeds"]
    if best is None or not wanted:
        return []
    first = order.values["seed"] + settings["seeds"]
    seeds = range(first, first + wanted)
    name = f"{this.study.study_name}, winner {best.number}"
    study, lock = open_study(settings, name, ["maximize"], 0)
    with lock.held():
        known = {trial.system_attrs.get("fixed_params", {}).get(SEED) for trial in study.get_trials(deepcopy=False)}
        for seed in seeds:
            if seed not in known:
                study.enqueue_trial({SEED: seed})
    hand_back(study, lock, settings["retries"])
    console.print(f"training trial {best.number} again with {wanted} seeds, to test it", soft_wrap=True)
    config = apply(order.config, order.space.values(best.params))
    details = {"final": True, "goals": [VALUE], "total": 0, "reseed": False}
    attend(this, study, lock, Goals((VALUE,)), config, details, min(settings["n_workers"], wanted), "winner")
    trials = [trial for trial in counted(study.get_trials(deepcopy=False)) if RESULT in trial.user_attrs]
    results = [trial.user_attrs[RESULT] for trial in trials if trial.params[SEED] in seeds]
    record_winner(this.parent, results)
    return results


def attend(
    this: Sweep,
    study: optuna.Study,
    lock: StudyLock,
    goals: Goals,
    config: DictConfig,
    details: dict[str, Any],
    workers: int,
    role: str,
) -> None:
    """Run workers on a study and show what they do; raises WorkersFailed where they cannot go on."""
    settings = this.order.settings
    trials = study.get_trials(deepcopy=False)
    total = max(settings["n_trials"], count(trials)["ended"]) if role == "trials" else settings["final_seeds"]
    details = details | {
        "config": OmegaConf.to_yaml(config),
        "settings": settings,
        "study": study.study_name,
        "directions": [direction.name.lower() for direction in study.directions],
        "parent_run": this.parent.run_id,
        "since": len(trials),
        "folder": str(this.folder / role),
    }
    devices = visible_devices(this.order.values["trainer"]["accelerator"])
    crew = Crew(details, workers, devices, this.folder / "workers")
    try:
        with View(study.study_name, goals, total, trials) as view, crew:
            while crew.tend(view.update(study.get_trials(deepcopy=False))):
                hand_back(study, lock, settings["retries"])
                time.sleep(POLL)
            view.update(study.get_trials(deepcopy=False))
    except WorkersFailed as error:
        reasons = [trial.user_attrs[REASON] for trial in study.get_trials(deepcopy=False) if REASON in trial.user_attrs]
        last = f": {reasons[-1]}" if reasons else ""
        raise UsageError(f"the sweep stopped, {error}{last}") from error
    finally:
        hand_back(study, lock, None)  # those we stopped ourselves are no failures


def summarize(this: Sweep) -> None:
    """Write table, plots and the winner into the folder and the MLflow run, whatever state the study is in."""
    trials = this.study.get_trials(deepcopy=False)
    counts = count(trials)
    goals = this.order.goals
    write_table(this.study, goals, this.order.space, this.folder / "trials.csv")
    this.parent.log_file(this.folder / "trials.csv")
    this.parent.log_metrics(0, {f"trials/{name}": counts[name] for name in ("complete", "pruned", "failed")})
    best = goals.best(trials)
    if best is None:
        return
    this.parent.log_metrics(0, {f"best/{name}": value for name, value in zip(goals.names, best.values, strict=True)})
    this.parent.set_tags({"sweep.best_trial": str(best.number), "sweep.best_parameters": parameters(best.params)})
    values = this.order.space.values(best.params)
    reached = f"{goals.metric} {best.values[0]:.4f}{cut_short(best)}"
    title = f"Trial {best.number} of the sweep {this.study.study_name}: {reached}"
    file = this.folder / "experiment" / "best.yaml"
    write_experiment(this.order.config, HydraConfig.get().runtime.choices, values, title, file)
    this.parent.log_file(file, "experiment")
    for note in draw(this.study, goals, this.folder / "plots"):
        console.print(note, soft_wrap=True, markup=False)
    this.parent.client.log_artifacts(this.parent.run_id, str(this.folder / "plots"), "plots")


def record_winner(parent: TrackedRun, results: Sequence[dict[str, Any]]) -> None:
    """Keep mean and standard deviation over the winner's seeds."""
    for name in results[0] if results else ():
        values = [result[name] for result in results]
        mean = sum(values) / len(values)
        spread = (sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)) ** 0.5
        parent.log_metrics(0, {f"winner/{name}_mean": mean, f"winner/{name}_std": spread})


def closing_rows(this: Sweep, finals: Sequence[dict[str, Any]], seconds: float) -> dict[str, str]:
    """Return the closing block: what was found, how sure that is, and how to go on."""
    order, study = this.order, this.study
    trials = study.get_trials(deepcopy=False)
    counts = count(trials)
    rows = {"trials": ", ".join(f"{counts[name]} {name}" for name in ("complete", "pruned", "failed"))}
    if best := order.goals.best(trials):
        value = "  ".join(f"{name} {number(value)}" for name, value in zip(order.goals.names, best.values, strict=True))
        rows["best trial"] = f"{best.number}: {value}{cut_short(best)}"
        rows["parameters"] = parameters(best.params)
    if not order.goals.single:
        rows["pareto front"] = "trials " + ", ".join(str(trial.number) for trial in study.best_trials)
    for name in ("test/acc", "test/loss"):
        if finals:
            rows[name] = mean_and_spread([result[name] for result in finals])
    rows["wall time"] = f"{seconds:.1f} s"
    rows["MLflow run"] = this.parent.run_id
    rows["folder"] = str(this.folder)
    if best:
        rows["run it"] = f"python train.py --config-dir {this.folder} experiment=best"
    rows["open it"] = (
        f"make ui, then http://127.0.0.1:5000/#/experiments/{this.parent.experiment_id}/runs/{this.parent.run_id}"
    )
    rows["study"] = f"optuna-dashboard {hidden(order.settings['storage'])}"
    return rows
