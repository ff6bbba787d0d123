"""What a sweep leaves behind: its MLflow run, the table of trials and the winner as an experiment."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import optuna
from hydra import compose
from mlflow.entities import RunStatus
from mlflow.exceptions import MlflowException
from omegaconf import DictConfig, OmegaConf

from cnnlab.config import SECTIONS, flatten
from cnnlab.errors import UsageError
from cnnlab.interruption import Interruption, held
from cnnlab.sweep.goals import Goals
from cnnlab.sweep.locks import StudyLock
from cnnlab.sweep.space import Space, apply
from cnnlab.sweep.study import DUPLICATE, HISTORY, PARENT_RUN, REASON, RESULT, RUN
from cnnlab.tracking.run import TrackedRun
from cnnlab.tracking.store import prepare, reserved_space

# What an experiment says: how to train, not what is drawn of it or where it is kept.
TRAINED = {"seed", "batch_size", "evaluation_batch_size", *SECTIONS} - {"tracking", "figures"}


@contextmanager
def open_parent(
    tracking: Mapping[str, Any],
    study: optuna.Study,
    lock: StudyLock,
    tags: Mapping[str, str],
    parameters: Mapping[str, Any],
) -> Iterator[TrackedRun]:
    """Open the MLflow run of the sweep, the same one in every launch, and end it as what it was.

    Raises UsageError where the study's run is not in this tracking store.
    """
    experiment_id = prepare(tracking["uri"], tracking["experiment_name"])
    mlflow.set_tracking_uri(tracking["uri"])
    client = mlflow.MlflowClient()
    with lock.held(), held():
        run_id = study.user_attrs.get(PARENT_RUN)
        if run_id is None:
            run_id = client.create_run(experiment_id, tags=dict(tags), run_name=study.study_name).info.run_id
            TrackedRun(run_id, experiment_id, client).log_parameters(parameters)
            study.set_user_attr(PARENT_RUN, run_id)
        try:
            client.update_run(run_id, status=RunStatus.to_string(RunStatus.RUNNING))
        except MlflowException as error:
            raise UsageError(
                f"tracking.uri={tracking['uri']!r} does not hold the MLflow run {run_id} of the study; "
                "every launch of a sweep needs the same tracking store (a server, where the machines differ)"
            ) from error
    status = "FAILED"
    with reserved_space(tracking["uri"]) as free_space:
        try:
            yield TrackedRun(run_id, client.get_run(run_id).info.experiment_id, client)
            status = "FINISHED"
        except Interruption:
            status = "KILLED"
            raise
        finally:
            with held():
                free_space()
                client.set_terminated(run_id, status)


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


NOTES = ("reason", "duplicate_of", "retried_as", "seconds", "mlflow_run")


def write_experiment(
    config: DictConfig, choices: Mapping[str, Any], values: Mapping[str, Any], title: str, file: Path
) -> None:
    """Write the winner as an experiment file: the chosen groups, and every value that differs from theirs.

    `config` is the training configuration as composed, `values` what the winner changed. Only differences are written,
    so a reader sees what the search found; interpolations stay interpolations.
    """
    groups = {group: choice for group, choice in choices.items() if group in TRAINED and isinstance(choice, str)}
    plain = compose(config_name="train", overrides=[f"{group}={choice}" for group, choice in groups.items()])
    before, after = (_leaves(node) for node in (plain, apply(config, values)))
    changed = {key: value for key, value in after.items() if key not in before or before[key] != value}
    body: dict[str, Any] = {"defaults": [{f"override /{group}": choice} for group, choice in groups.items()]}
    for key, value in changed.items():
        *path, last = key.split(".")
        node = body
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"# @package _global_\n# {title}\n{OmegaConf.to_yaml(OmegaConf.create(body))}", encoding="utf-8")


def _leaves(config: DictConfig) -> dict[str, Any]:
    """Return what a training configuration says about the training, not about where it is kept."""
    values = OmegaConf.to_container(config, resolve=False)
    assert isinstance(values, dict)
    return flatten({str(key): value for key, value in values.items() if key in TRAINED})
