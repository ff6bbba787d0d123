"""What a sweep leaves behind: the table of trials, the winner as an experiment, and the closing block."""

from __future__ import annotations

import csv
import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
import pandas as pd
from omegaconf import DictConfig, OmegaConf

from cnnlab.job import Job, compose_whole
from cnnlab.own_path import written
from cnnlab.quoting import PLAIN
from cnnlab.settings.base import flatten
from cnnlab.settings.commands import Training
from cnnlab.start import typed
from cnnlab.sweeps import repeat
from cnnlab.sweeps.configurations import Configurations
from cnnlab.sweeps.goals import Goals
from cnnlab.sweeps.order import Order
from cnnlab.sweeps.plots import draw
from cnnlab.sweeps.space import Space
from cnnlab.sweeps.storage import HISTORY, RUN, hidden
from cnnlab.sweeps.study import DUPLICATE, REASON, RESULT, THREADS
from cnnlab.sweeps.view import ENDED, cut_short, mean_and_spread, number, parameters, tally
from cnnlab.tracking.run import TrackedRun
from cnnlab.tracking.schema import BEST_TRIAL, TRIALS, WINNER, Metric, Tag
from cnnlab.tracking.store import page_of

# What an experiment says: how to train, not what is drawn of it or where it is kept.
TRAINED = set(Training.model_fields) - {"tracking", "figures"}
TRIALS_FILE = "trials.csv"
NOTES = ("reason", "duplicate_of", "retried_as", "seconds", "mlflow_run")


@dataclass(frozen=True)
class SweepRun:
    """What a sweep has found: the best trial's number, parameters and values, all trials, and the winner's metrics.

    `best_trial` is None, and its parameters and values empty, where no trial ended. `trials` has a row a trial,
    `tested` the winner's test metrics, a row a seed, or those of validation where the test split is sealed.
    """

    run_id: str
    folder: Path
    study: optuna.Study
    best_trial: int | None
    best_parameters: Mapping[str, object]
    best_values: Mapping[str, float]
    trials: pd.DataFrame
    tested: pd.DataFrame
    waits: str | None = None  # what of its runs no server has yet


def summarize(
    order: Order, study: optuna.Study, parent: TrackedRun, folder: Path, commands: Mapping[str, str]
) -> list[str]:
    """Write table, plots and the winner into the folder and the MLflow run; return what could not be drawn.

    `commands`, by what they do, go on from here.
    """
    trials = study.get_trials(deepcopy=False)
    tallied, goals = tally(trials), order.goals
    write_table(study, goals, order.space, folder / TRIALS_FILE)
    parent.log_file(folder / TRIALS_FILE)
    parent.log_results({f"{TRIALS}{name}": tallied[name] for name in ENDED})
    best = goals.best(trials)
    if best is None:
        return []
    reached = zip(goals.names, best.values, strict=True)
    parent.log_results({f"{BEST_TRIAL}{name}": value for name, value in reached})
    told: dict[str, str] = {Tag.BEST_TRIAL: str(best.number), Tag.BEST_PARAMETERS: parameters(best.params)}
    parent.set_tags(told | {str(Tag.BEST_RUN): str(best.user_attrs.get(RUN, ""))})
    values = order.space.values(best.params)
    threads = best.user_attrs.get(THREADS)
    found = f"\n# Found with threads={threads}, which repeats it bit for bit on such a processor." if threads else ""
    title = f"Trial {best.number} of the sweep {study.study_name}: {goals.metric} {best.values[0]:.4f}{cut_short(best)}"
    title += found
    file = folder / "experiment" / "best.yaml"
    write_experiment(order.configurations, order.job, values, title, file)
    parent.log_file(file, "experiment")
    notes = draw(study, goals, folder / "plots", commands)
    parent.log_folder(folder / "plots", "plots")
    return notes


def record_winner(parent: TrackedRun, results: Sequence[Mapping[str, float]]) -> None:
    """Keep mean and standard deviation over the winner's seeds."""
    for name in results[0] if results else ():
        values = [result[name] for result in results]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        parent.log_results({f"{WINNER}{name}_mean": statistics.fmean(values), f"{WINNER}{name}_std": spread})


def closing_rows(
    order: Order,
    study: optuna.Study,
    parent: TrackedRun,
    folder: Path,
    tested: Sequence[Mapping[str, float]],
    seconds: float,
) -> dict[str, str]:
    """Return the closing block: what was found, how sure that is, and how to go on."""
    trials = study.get_trials(deepcopy=False)
    tallied = tally(trials)
    rows = {"trials": ", ".join(f"{tallied[name]} {name}" for name in ENDED if tallied[name] or name != "infeasible")}
    best = order.goals.best(trials)
    if best is not None:
        value = "  ".join(f"{name} {number(value)}" for name, value in zip(order.goals.names, best.values, strict=True))
        rows["best trial"] = f"{best.number}: {value}{cut_short(best)}"
        rows["parameters"] = parameters(best.params)
    if not order.goals.single:
        rows["pareto front"] = "trials " + ", ".join(str(trial.number) for trial in study.best_trials)
    for name in (Metric.TEST_ACCURACY, Metric.TEST_LOSS, Metric.VAL_ACCURACY, Metric.VAL_LOSS):
        if tested and name in tested[0]:
            rows[name] = mean_and_spread([result[name] for result in tested])
    rows["wall time"] = f"{seconds:.1f} s"
    rows["MLflow run"] = parent.run_id
    rows["folder"] = str(folder)
    if best is not None:
        rows["run it"] = f"{typed('train')} {best_again(folder, order.job.own_folder)}"
    rows["open it"] = page_of(order.training.tracking.uri, parent.experiment_id, parent.run_id)
    rows["study"] = f"optuna-dashboard {hidden(order.settings.storage)}"
    return rows


def best_again(folder: Path, own_folder: Path | None) -> str:
    """Return what train.py takes to run the winner, below the current folder without that folder's path.

    Hydra takes one folder by --config-dir, and others by their path.
    """
    own = written(own_folder)
    if not own:
        here = Path.cwd()
        near = folder.relative_to(here) if folder.is_relative_to(here) else folder
        return shlex.join(["--config-dir", str(near), "experiment=best"])
    address = f"file://{folder}" if PLAIN.fullmatch(str(folder)) else repeat.written(f"file://{folder}")
    return shlex.join([*own, f"hydra.searchpath=[{address}]", "experiment=best"])


def write_table(study: optuna.Study, goals: Goals, space: Space, file: Path) -> None:
    """Write one row a trial: what it was, what came out, and why it failed."""
    trials = study.get_trials(deepcopy=False)
    successors = {history[-1]: trial.number for trial in trials if (history := trial.system_attrs.get(HISTORY))}
    keys = [parameter.key for parameter in space]
    measured = list(dict.fromkeys(name for trial in trials for name in trial.user_attrs.get(RESULT, {})))
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["trial", "state", *keys, *goals.names, *(f"measured {name}" for name in measured), *NOTES])
        for trial in trials:
            values = trial.values or [""] * len(goals.names)
            seconds = trial.duration.total_seconds() if trial.duration else ""
            notes = [trial.user_attrs.get(name, "") for name in (REASON, DUPLICATE)]
            table.writerow(
                [trial.number, trial.state.name.lower()]
                + [trial.params.get(key, "") for key in keys]
                + values
                + [trial.user_attrs.get(RESULT, {}).get(name, "") for name in measured]
                + [*notes, successors.get(trial.number, ""), seconds, trial.user_attrs.get(RUN, "")]
            )


def write_experiment(
    configurations: Configurations, job: Job, values: Mapping[str, object], title: str, file: Path
) -> None:
    """Write the winner as an experiment file: the chosen groups, and every value that differs from theirs.

    `configurations` are those of the `job`, `values` what the winner changed. Only differences are
    written, so a reader sees what the search found; interpolations stay interpolations.
    """
    choices = {**job.choices, **configurations.options(values)}
    groups = {group: choice for group, choice in choices.items() if group in TRAINED}
    plain = compose_whole("train", [f"{group}={choice}" for group, choice in groups.items()], job.own_folder)
    before, after = (_leaves(node) for node in (plain, configurations.having(values)))
    changed = {key: value for key, value in after.items() if key not in before or before[key] != value}
    defaults = [{f"override /{group}": choice} for group, choice in groups.items()]
    body = OmegaConf.create({"defaults": defaults})
    for key, value in changed.items():
        OmegaConf.update(body, key, value, force_add=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"# @package _global_\n# {title}\n{OmegaConf.to_yaml(body)}", encoding="utf-8")


def _leaves(config: DictConfig) -> dict[str, object]:
    """Return what a training configuration says about the training, not about where it is kept."""
    values = OmegaConf.to_container(config, resolve=False)
    assert isinstance(values, dict)
    return flatten({str(key): value for key, value in values.items() if key in TRAINED})
