"""`make bench`: what it measures, prints and keeps, and that the pages' figures are those that it found."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from commands import ROOT, environment

sys.path.append(str(ROOT))

from benchmarks import epoch_tables, results, step_profile
from benchmarks.benchmarks import BENCHMARKS


def test_the_pages_figures_are_those_that_make_bench_has_kept():
    for page, figures in ((results.PAGE, results.figures(BENCHMARKS)), (results.README, results.headlines(BENCHMARKS))):
        assert results.block_of(page.read_text(encoding="utf-8")) == figures


def test_a_profile_counts_what_each_operator_computes_and_moves():
    left, right = torch.randn(2, 8, 16, requires_grad=True)
    with step_profile.Watch() as watch:
        (left @ right.T).relu().sum().backward()
    _, calls, operations, moved = watch.seen["mm"]
    assert calls == 3  # forward, and a gradient each
    assert operations == 3 * 2 * 8 * 8 * 16
    assert moved == 3 * 4 * (8 * 16 + 16 * 8 + 8 * 8)
    assert watch.seen["relu"][2] == 0


def test_a_recipe_measured_again_takes_its_place_and_says_when():
    whole = json.loads((results.RESULTS / "epochs.json").read_text(encoding="utf-8"))
    name = next(iter(whole["recipes"]))
    again = {key: whole[key] for key in ("device", "left_out")} | {
        "command": "python -m benchmarks epochs --recipes one",
        "threads": 1,
        "machine": whole["machine"] | {"date": "a later day"},
        "recipes": {name: whole["recipes"][name] | {"count": 77}},
    }
    joined = epoch_tables.joined(whole, again)
    assert list(joined["recipes"]) == list(whole["recipes"]) and joined["machine"] == whole["machine"]
    for lines in (epoch_tables.told(joined), epoch_tables.summary(joined)):
        text = "\n".join(lines)
        assert "n = 77" in text and f"`{name}` by itself, 1 threads: `{again['command']}`, a later day" in text
    assert epoch_tables.joined(again, whole) == whole, "a whole benchmark replaces all"


@pytest.mark.parametrize(("name", "elsewhere"), [("epochs", False), ("step_profile", True)])
def test_only_a_part_that_can_be_joined_is_kept_among_whole_benchmarks(name, elsewhere):
    parser = argparse.ArgumentParser()
    BENCHMARKS[name].add_options(parser)
    part, usual = parser.parse_args(["--recipes", "dnn"]), parser.parse_args([])
    assert results.changed(BENCHMARKS[name], part, usual) == elsewhere


@pytest.mark.slow
def test_contestants_train_by_turns_and_one_that_cannot_be_had_is_told(tmp_path: Path):
    """Keras cannot be had where no package can be fetched; the others go on without it."""
    chosen = ["--recipes", "fashion_cnn", "--dataset", "digits", "--contestants", "keras,pytorch_tuned,cnnlab"]
    offline = {"XDG_CACHE_HOME": str(tmp_path), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks",
            "epochs",
            *chosen,
            "--epochs",
            "2",
            "--threads",
            "1",
            "--results",
            str(tmp_path / "found"),
        ],
        cwd=ROOT,
        env=environment(**offline),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found" / "epochs.json").read_text())
    measured = found["recipes"]["fashion_cnn"]
    assert "could not be installed" in measured["left_out"]["keras"]
    assert f"Keras: left out, {measured['left_out']['keras']}" in done.stderr
    assert list(measured["contestants"]) == ["pytorch_tuned", "cnnlab"]
    for contestant in measured["contestants"].values():
        assert len(contestant["epochs"]) == 2
        assert all(epoch["seconds"] > 0 for epoch in contestant["epochs"])
        assert contestant["epochs"][-1]["objective"] < contestant["epochs"][0]["objective"]
    table = (tmp_path / "found" / "epochs.md").read_text()
    assert table in done.stdout
    assert "`fashion_cnn` on digits: 1,293 images, batches of 32, n = 2 epochs" in table
    assert found["machine"]["processor"] in table
    assert not (tmp_path / "outputs").exists()
