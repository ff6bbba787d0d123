"""The user's own code that is kept with a run."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from cnnlab.tracking import own_code
from cnnlab.tracking.own_code import copy_files, own_files, targets


@pytest.fixture
def mine(tmp_path, monkeypatch) -> Path:
    """Return a folder with a module, a package it imports from, and a configuration, all of it loaded."""
    files = {
        "kept_nets.py": "import kept_blocks.layers\n",
        "kept_blocks/__init__.py": "",
        "kept_blocks/layers.py": "",
        "kept_unused.py": "",
        "conf/model/net.yaml": "_target_: kept_nets.Net\n",
        "conf/notes.txt": "",
    }
    for name, text in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("kept_nets")
    yield tmp_path
    for name in ("kept_nets", "kept_blocks", "kept_blocks.layers"):
        del sys.modules[name]


def test_targets_are_found_however_deep():
    values = {"a": {"_target_": "x.Y", "inner": [{"_target_": "z.W"}]}, "b": [1, "x"], "_target_": 3}
    assert list(targets(values)) == ["x.Y", "z.W"]


def test_the_modules_they_come_from_what_those_import_and_the_configuration(mine):
    files = own_files({"model": {"_target_": "kept_nets.Net"}}, mine / "conf")
    assert list(files) == ["kept_blocks/__init__.py", "kept_blocks/layers.py", "kept_nets.py", "conf/model/net.yaml"]
    assert set(own_files({"model": {"_target_": "kept_blocks.layers.Net"}}, None)) == set(files) - {
        "conf/model/net.yaml"
    }


def test_nothing_of_installed_packages_python_or_cnnlab(mine):
    installed = ["torch.optim.Adam", "json.loads", "cnnlab.models.MLP", "builtins.dict", "nowhere.X"]
    assert own_files([{"_target_": name} for name in installed], None) == {}


def test_what_is_too_large_is_left_out_and_named(mine, tmp_path, monkeypatch):
    files = own_files({"_target_": "kept_nets.Net"}, mine / "conf")
    monkeypatch.setattr(own_code, "LARGEST_FILE", 25)
    assert copy_files(files, tmp_path / "copy") == ["kept_nets.py"]
    assert (tmp_path / "copy" / "conf" / "model" / "net.yaml").read_text() == "_target_: kept_nets.Net\n"
    monkeypatch.setattr(own_code, "LARGEST_ALL", 10)
    assert copy_files(files, tmp_path / "none") == ["kept_nets.py", "conf/model/net.yaml"]
