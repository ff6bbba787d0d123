"""Every example of docs/adding_your_own.md, as the page shows it: files in a real folder, commands in a shell."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest

from cnnlab.job import compose_job
from cnnlab.own_path import add_to_path
from cnnlab.plan import make_plan, read_training
from cnnlab.settings.read import resolve
from cnnlab.sweeps.order import read_order
from commands import ROOT, run

PAGE = (ROOT / "docs" / "adding_your_own.md").read_text(encoding="utf-8")
FILE = re.compile(r"^`(mine/[^`]+)`:\n\n```(?:python|yaml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMANDS = re.compile(r"^```\n(python .*?)^```$", re.MULTILINE | re.DOTALL)
QUICK = ("figures.enabled=false",)


@dataclass(frozen=True)
class Section:
    """A part of the page: its heading and its commands."""

    heading: str
    commands: tuple[str, ...]


def sections() -> list[Section]:
    parts = re.split(r"^## (.*)$", PAGE, flags=re.MULTILINE)[1:]
    found = [
        Section(heading, tuple(line for block in COMMANDS.findall(text) for line in block.splitlines()))
        for heading, text in zip(parts[::2], parts[1::2], strict=True)
    ]
    return [section for section in found if section.commands]


@pytest.fixture
def folder(tmp_path) -> Path:
    """Return a folder that holds every file of the page."""
    for name, text in FILE.findall(PAGE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_the_page_shows_every_part_with_a_command():
    assert len(FILE.findall(PAGE)) == PAGE.count("```python") + PAGE.count("```yaml") > 0
    assert sum(len(section.commands) for section in sections()) == len(re.findall(r"^python ", PAGE, re.MULTILINE))
    assert {"A network", "Images", "A loss", "Callbacks and loggers", "Metrics"} <= {one.heading for one in sections()}


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.heading)
def test_what_the_page_shows_can_be_trained(section, folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder / "mine"))
    for command in section.commands:
        _, door, *arguments = shlex.split(command)
        own = None
        if arguments[0] == "--config-dir":
            own, arguments = Path(arguments[1]), arguments[2:]
        if door in ("train.py", "sweep.py"):
            uri = f"tracking.uri=sqlite:///{folder}/mlflow.db"
            job = compose_job(door.removesuffix(".py"), [*arguments, uri], own, folder)
            add_to_path(own)
            read_order(job) if door == "sweep.py" else make_plan(read_training(resolve(job.config)), folder)


@pytest.mark.slow
@pytest.mark.parametrize("section", sections(), ids=lambda section: section.heading)
def test_every_command_of_the_page_runs_as_it_stands(section, folder):
    for command in section.commands:
        _, door, *arguments = shlex.split(command)
        done = run(folder, door, *arguments, *(() if door == "predict.py" else QUICK))
        assert done.returncode == 0, (command, done.stderr)
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    found = client.search_runs([item.experiment_id for item in client.search_experiments()])
    assert all(item.info.status == "FINISHED" for item in found)
    kept = {item.path for one in found for part in client.list_artifacts(one.info.run_id, "code") for item in [part]}
    if any("--config-dir" in command for command in section.commands):
        assert "code/conf" in kept and (section.heading == "Metrics" or any(name.endswith(".py") for name in kept))
