"""What optuna-dashboard shows of a study beyond its trials: the goals' names, a note, and the way to the runs.

Notes are written as the dashboard keeps them, in attributes of the study, so that nothing of it is needed here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence

import optuna

from cnnlab.sweeps.goals import Goals
from cnnlab.sweeps.shown import label
from cnnlab.sweeps.storage import RUN
from cnnlab.sweeps.view import cut_short

LONGEST = 2045  # characters of a note in one attribute
OUR_VERSION = "note_version"  # of the note that was written here: it counts on where somebody edits it


def name_goals(study: optuna.Study, goals: Sequence[str]) -> None:
    """Name the axes after the goals, which else are called Objective 0 and 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental, says Optuna
        if study.metric_names != list(goals):
            study.set_metric_names(list(goals))


def describe(study: optuna.Study, goals: Goals, links: Mapping[str, str], commands: Mapping[str, str]) -> None:
    """Write the study's note: the best trial, links and commands by what they are for. One edited by hand stays."""
    attributes = study._storage.get_study_system_attrs(study._study_id)
    if attributes.get(_version_key(None)) != attributes.get(OUR_VERSION):
        return
    lines = []
    if (best := goals.best(study.get_trials(deepcopy=False))) is not None:
        reached = zip(goals.names, best.values, strict=True)
        values = ", ".join(f"{name} {label(value)}" for name, value in reached)
        lines += [f"**Best: trial {best.number}, {values}**{cut_short(best)}", "", "| parameter | value |", "|---|---|"]
        lines += [f"| {name} | {label(value)} |" for name, value in best.params.items()] + [""]
    lines += [f"- [{what}]({link})" for what, link in links.items()]
    lines += [f"- {what}: `{command}`" for what, command in commands.items()]
    version = int(attributes.get(OUR_VERSION, 0)) + 1
    study._storage.set_study_system_attr(study._study_id, OUR_VERSION, version)
    _write(study, None, version, "\n".join(lines), attributes)


def link_trials(study: optuna.Study, page: Callable[[str], str]) -> None:
    """Give each trial that has a run and no note yet one with the way there; `page` is the address of a run."""
    attributes = study._storage.get_study_system_attrs(study._study_id)
    for trial in study.get_trials(deepcopy=False):
        run_id = trial.user_attrs.get(RUN)
        if run_id and _version_key(trial._trial_id) not in attributes:
            _write(study, trial._trial_id, 1, f"[Its run in MLflow]({page(run_id)})", {})


def _version_key(trial_id: int | None) -> str:
    return "dashboard:note_ver" if trial_id is None else f"dashboard:{trial_id}:note_ver"


def _write(study: optuna.Study, trial_id: int | None, version: int, text: str, before: Mapping[str, object]) -> None:
    prefix = "dashboard:note_str:" if trial_id is None else f"dashboard:{trial_id}:note_str:"
    parts = [text[start : start + LONGEST] for start in range(0, len(text), LONGEST)]
    older = sum(key.startswith(prefix) for key in before) - len(parts)
    for place, part in enumerate([*parts, *[""] * older]):
        study._storage.set_study_system_attr(study._study_id, f"{prefix}{place}", part)
    study._storage.set_study_system_attr(study._study_id, _version_key(trial_id), version)
