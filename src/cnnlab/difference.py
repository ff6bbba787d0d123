"""What differs between two runs, and how much is equal."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import mlflow
from mlflow.entities import Run
from rich import box
from rich.table import Table

from cnnlab.console import console
from cnnlab.job import Job
from cnnlab.settings.base import digest, flatten
from cnnlab.settings.read import read, resolve
from cnnlab.settings.trained import Difference
from cnnlab.tracking.find import find_run, kept_settings, kept_text, open_client
from cnnlab.tracking.schema import DIFF_FILE, ENVIRONMENT_FILE, VERSION, Metric, Tag

RESULTS = (
    Metric.TEST_ACCURACY,
    Metric.TEST_LOSS,
    Metric.BEST_VAL_ACCURACY,
    Metric.BEST_VAL_LOSS,
    Metric.BEST_EPOCH,
    Metric.EPOCHS,
    Metric.TRAINING_SECONDS,
)
WHOLE = (Metric.BEST_EPOCH, Metric.EPOCHS)
MACHINE = (Tag.DEVICE, Tag.DEVICE_NAME, Tag.THREADS, Tag.HOST, Tag.PLATFORM)
ABSENT = "-"
NAMED = 3  # changed files named


@dataclass(frozen=True)
class Row:
    """One thing that differs."""

    part: str
    name: str
    a: str
    b: str


@dataclass(frozen=True)
class Comparison:
    """What differs between two runs, and in each part how many things do not."""

    a: Run
    b: Run
    rows: tuple[Row, ...]
    equal: Mapping[str, int]


def diff(job: Job) -> Comparison:
    """Print what differs between the runs `a` and `b`, and return it; raises UsageError for runs that are not there."""
    settings = read(Difference, resolve(job.config))
    client = open_client(settings.tracking.uri)
    a, b = (find_run(client, str(wanted), key=key) for key, wanted in (("a", settings.a), ("b", settings.b)))
    found = compare(client, a, b)
    for key, run in (("A", a), ("B", b)):
        console.print(f"{key}  {run.info.run_id}  {run.info.run_name}  {run.info.status}", soft_wrap=True, markup=False)
    if console.is_terminal and found.rows:
        console.print(as_table(found))
    else:
        for row in found.rows:
            console.print(f"{row.part}  {row.name}: {row.a} -> {row.b}", soft_wrap=True, markup=False)
    equal = ", ".join(f"{count} of {part}" for part, count in found.equal.items() if count)
    console.print(f"equal: {equal or 'nothing'}")
    return found


def compare(client: mlflow.MlflowClient, a: Run, b: Run) -> Comparison:
    """Return what differs between two runs, part by part."""
    rows: list[Row] = []
    equal: dict[str, int] = {}
    for part, describe in PARTS.items():
        first, second = describe(client, a), describe(client, b)
        names = dict.fromkeys([*first, *second])
        differing = [name for name in names if first.get(name, ABSENT) != second.get(name, ABSENT)]
        equal[part] = len(names) - len(differing)
        rows += [Row(part, name, first.get(name, ABSENT), second.get(name, ABSENT)) for name in differing]
    return Comparison(a, b, tuple(rows), equal)


def settings_of(client: mlflow.MlflowClient, run: Run) -> dict[str, str]:
    """Return the settings, one a key; of a run that kept no file its parameters."""
    kept = kept_settings(client, run)
    values = run.data.params if kept is None else flatten(kept)
    return {key: str(value) for key, value in values.items() if key not in ("like", "threads")}


def code_of(client: mlflow.MlflowClient, run: Run) -> dict[str, str]:
    """Return the commit, and which files differed from it; files are told apart by what was changed in them."""
    told = {str(tag): run.data.tags[tag] for tag in (Tag.COMMIT, Tag.BRANCH) if tag in run.data.tags}
    parts = re.split(r"^(?=diff --git )", kept_text(client, run, DIFF_FILE), flags=re.MULTILINE)
    changed = {}
    for part in parts:
        if name := re.match(r"diff --git a/.* b/(.*)", part):
            lines = sum(line.startswith(("+", "-")) for line in part.splitlines()) - 2  # the two that name the file
            changed[f"uncommitted {name[1]}"] = f"{max(lines, 0)} lines ({digest({name[1]: part})[:6]})"
    return told | changed


def data_of(client: mlflow.MlflowClient, run: Run) -> dict[str, str]:
    """Return the dataset with its digest, its classes, the shape of an image and the size of each split."""
    told = {str(Tag.IMAGES): run.data.tags[Tag.IMAGES]} if Tag.IMAGES in run.data.tags else {}
    for item in run.inputs.dataset_inputs if run.inputs else ():
        told |= {"name": item.dataset.name, "digest": item.dataset.digest}
        profile = json.loads(item.dataset.profile or "{}")
        told |= {key: str(profile[key]) for key in ("classes", "image") if key in profile}
    return told


def versions_of(client: mlflow.MlflowClient, run: Run) -> dict[str, str]:
    """Return the version of Python and of every package that was installed, as far as the run tells."""
    tags = {key.removeprefix(VERSION): value for key, value in run.data.tags.items() if key.startswith(VERSION)}
    lines = kept_text(client, run, ENVIRONMENT_FILE).splitlines()
    return tags | {name: version for name, _, version in (line.partition("==") for line in lines)}


def machine_of(client: mlflow.MlflowClient, run: Run) -> dict[str, str]:
    return {str(tag): run.data.tags[tag] for tag in MACHINE if tag in run.data.tags}


def results_of(client: mlflow.MlflowClient, run: Run) -> dict[str, str]:
    """Return what came out: the test split's and the kept checkpoint's numbers, epochs and seconds."""
    metrics = run.data.metrics
    return {
        str(name): f"{metrics[name]:.0f}" if name in WHOLE else f"{metrics[name]:.4f}"
        for name in RESULTS
        if name in metrics
    }


Describe = Callable[[mlflow.MlflowClient, Run], dict[str, str]]
PARTS: dict[str, Describe] = {
    "settings": settings_of,
    "code": code_of,
    "data": data_of,
    "versions": versions_of,
    "machine": machine_of,
    "results": results_of,
}


def as_table(found: Comparison) -> Table:
    """Return a row for each thing that differs, the part named once."""
    table = Table("", "", "A", "B", box=box.HORIZONTALS, pad_edge=False, show_edge=False)
    for column in table.columns[1:]:
        column.overflow = "fold"
    for part, row in _headed(found.rows):
        table.add_row(part, row.name, row.a, row.b)
    return table


def _headed(rows: tuple[Row, ...]) -> Iterator[tuple[str, Row]]:
    before = ""
    for row in rows:
        yield ("" if row.part == before else row.part), row
        before = row.part
