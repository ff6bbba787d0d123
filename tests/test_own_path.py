"""A user's own folder on Python's path, and named again in the commands that are printed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cnnlab.own_path import add_to_path, written
from commands import environment


def test_the_folder_the_one_above_conf_and_the_current_one_end_the_path(tmp_path, monkeypatch):
    (tmp_path / "mine" / "conf").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", ["first"])
    add_to_path(Path("../mine/conf"))
    add_to_path(Path("../mine/conf"))
    assert sys.path == ["first", *(str(tmp_path / name) for name in ("mine/conf", "mine", "here"))]
    add_to_path(Path("../mine"))
    assert sys.path[4:] == []


@pytest.mark.cold
def test_no_file_of_theirs_takes_the_place_of_a_package(tmp_path):
    for name in ("random.py", "torch.py", "yaml.py"):
        (tmp_path / name).write_text("raise SystemExit('taken')")
    script = "from cnnlab.own_path import add_to_path; add_to_path(None); import random, yaml; print('well')"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.remove(''); {script}"],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(Path(__file__).parents[1] / "src")),
        capture_output=True,
        text=True,
    )
    assert done.stdout == "well\n", done.stderr


def test_it_is_written_as_one_argument_short_where_it_lies_below(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert written(Path("mine/conf")) == ["--config-dir=mine/conf"]
    assert written(Path("../mine")) == [f"--config-dir={tmp_path}/mine"]
    assert written(None) == []
