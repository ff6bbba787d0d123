"""A sweep over a user's own network, from their own folder."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from cnnlab.sweeps.results import best_again
from cnnlab.tracking.schema import Role, Tag
from commands import run as run_door
from sweep_commands import run, tracked, tracked_runs

NET = """
import torch


class Net(torch.nn.Sequential):
    def __init__(self, input_shape, classes, width, conv_dropout, dense_dropout):
        channels, height, width_of_image = input_shape
        pixels = channels * height * width_of_image
        layers = torch.nn.Linear(pixels, width), torch.nn.ReLU(), torch.nn.Linear(width, classes)
        super().__init__(torch.nn.Flatten(), *layers)
"""


@pytest.mark.slow
def test_it_searches_its_arguments_and_what_it_prints_and_keeps_runs_as_it_stands(tmp_path):
    (tmp_path / "mine" / "conf" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "nets.py").write_text(NET)
    (tmp_path / "mine" / "conf" / "model" / "net.yaml").write_text("name: net\n_target_: nets.Net\nwidth: 16\n")
    searched = ("search=none", '+search.model.width="choice(4, 8)"', "sampler=grid", "sweep.final_seeds=1")
    said = run(tmp_path, "model=net", "tracking.log_model=false", *searched, "--config-dir", "mine/conf")
    (line,) = [line.removeprefix("run it").strip() for line in said.splitlines() if line.startswith("run it")]
    assert line.startswith("python train.py --config-dir=mine/conf 'hydra.searchpath=[file:///")
    (winner,) = [item for item in tracked_runs(tmp_path) if item.data.tags.get(Tag.ROLE) == Role.WINNER]
    for command in (line, winner.data.tags[Tag.COMMAND], f"python train.py {winner.data.tags[Tag.OVERRIDES]}"):
        done = run_door(tmp_path, *shlex.split(command)[1:], "figures.enabled=false", "tracking.log_model=false")
        assert done.returncode == 0, done.stderr
    kept = tracked(tmp_path).list_artifacts(winner.info.run_id, "code")
    assert {item.path for item in kept} == {"code/nets.py", "code/conf"}
    repeated = [item for item in tracked_runs(tmp_path) if Tag.ROLE not in item.data.tags]
    assert {item.data.params["model.width"] for item in repeated} == {winner.data.params["model.width"]}
    same = [item.data.metrics["test/acc"] for item in repeated if item.data.params["seed"] == "1"]
    assert same == [winner.data.metrics["test/acc"]] * 2
    assert all("--config-dir=mine/conf" in item.data.tags[Tag.OVERRIDES] for item in repeated)


def test_the_winner_is_found_beside_the_users_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert best_again(Path("/out"), None) == "--config-dir /out experiment=best"
    beside = "--config-dir=mine 'hydra.searchpath=[file:///out]' experiment=best"
    assert best_again(Path("/out"), Path("mine")) == best_again(Path("/out"), tmp_path / "mine") == beside


def test_a_folder_that_hydra_would_misread_is_quoted_for_it():
    assert shlex.split(best_again(Path("/o'ut (1)"), Path("/mine")))[1] == "hydra.searchpath=['file:///o\\'ut (1)']"
