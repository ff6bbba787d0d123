"""The doctor names what is well and what is wrong, and its exit code is 1 for the latter."""

from __future__ import annotations

import shutil

import pytest

from cnnlab.doctor import doctor
from cnnlab.living import machine
from cnnlab.tracking import doctor as module
from cnnlab.tracking.find import open_client
from cnnlab.tracking.schema import Tag
from cnnlab.tracking.store import uri_of


@pytest.fixture
def copy(trained, tmp_path):
    return shutil.copytree(trained.folder / "mlruns", tmp_path / "mlruns")


def examined(uri, capsys) -> tuple[int, dict[str, str]]:
    """Return the exit code and what was said of each thing, the verdict first."""
    code = doctor(uri)
    lines = capsys.readouterr().out.splitlines()
    return code, {line[6:17].strip(): f"{line[:6].strip()}: {line[17:].strip()}" for line in lines}


def test_a_good_store_is_said_to_be_one(trained, capsys):
    code, said = examined(trained.uri, capsys)
    assert code == 0
    assert said["store"] == f"ok: {trained.uri}"
    assert said["runs"] == "ok: 1 in 1 experiments: digits"
    assert said["locations"] == "ok: of artifacts are right"
    assert said["artifacts"] == "ok: of all 1 runs that keep some on this machine are there"
    assert said["packages"].startswith("ok: ")
    assert "GiB free" in said["folder"]


def test_what_a_move_broke_is_mended_and_lost_artifacts_are_named(trained, copy, capsys):
    run_id = trained.run.info.run_id
    code, said = examined(uri_of(copy / "mlflow.db"), capsys)
    assert code == 0 and said["locations"] == "ok: of artifacts were mended just now"
    shutil.rmtree(copy / "artifacts" / "digits" / run_id)
    code, said = examined(uri_of(copy / "mlflow.db"), capsys)
    assert code == 1
    assert said["artifacts"].startswith(f"WRONG: of 1 of 1 runs are missing: {run_id} (")


def test_what_killed_runs_left_over_is_named(copy, capsys):
    uri = uri_of(copy / "mlflow.db")
    client = open_client(uri)
    (experiment,) = [item for item in client.search_experiments() if item.name == "digits"]
    nobodys = client.create_run(experiment.experiment_id).info.run_id
    code, said = examined(uri, capsys)
    assert code == 0 and said["left over"].startswith(f"note: RUNNING, and nobody knows whose: {nobodys}")
    owner = f"{machine()} 4194999 1"  # beyond the largest process number
    gone = client.create_run(experiment.experiment_id, tags={Tag.PROCESS: owner}).info.run_id
    (copy / ".reserve-4194999").touch()
    doctor(uri)
    said = capsys.readouterr().out
    assert "1 reserves of killed runs, removed just now" in said
    assert f"run {gone} (" in said and "marked KILLED" in said
    assert not list(copy.glob(".reserve-*"))


def test_no_store_no_server_and_no_package(tmp_path, monkeypatch, capsys):
    code, said = examined(uri_of(tmp_path / "mlruns" / "mlflow.db"), capsys)
    assert code == 0 and said["runs"] == "note: none yet"
    assert not list(tmp_path.iterdir())
    code, said = examined("http://127.0.0.1:9", capsys)
    assert code == 1 and said["runs"].startswith("WRONG: tracking.uri='http://127.0.0.1:9' cannot be reached")
    monkeypatch.setattr(module, "requirements", lambda: ["rich>=999", "no-such-package", "nothing; extra == 'dev'"])
    code, said = examined("file:///x", capsys)
    assert code == 1
    assert said["store"].startswith("WRONG: tracking.uri='file:///x' is not an address")
    assert "is outside >=999; no-such-package is missing; mend it: pip install -r " in said["packages"]
