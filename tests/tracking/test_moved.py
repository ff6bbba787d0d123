"""A store that was renamed, moved or copied finds its artifacts, and writes where it is."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import mlflow
import numpy as np
import pytest

from cnnlab.doctor import doctor
from cnnlab.tracking.find import open_client
from cnnlab.tracking.store import absolute_uri, prepare, settle, sqlite_file, uri_of
from commands import environment, run

SETTLE = "import sys; from cnnlab.tracking.store import settle; settle(sys.argv[1])"


@pytest.fixture
def copy(trained, tmp_path) -> Path:
    """A project's folder, copied with its store: the original is still there."""
    return Path(shutil.copytree(trained.folder, tmp_path / "copy"))


def store_of(project: Path) -> str:
    return uri_of(project / "mlruns" / "mlflow.db")


def locations(project: Path) -> list[str]:
    query = (
        "SELECT artifact_location FROM experiments UNION ALL SELECT artifact_uri FROM runs "
        "UNION ALL SELECT artifact_location FROM logged_models"
    )
    with closing(sqlite3.connect(project / "mlruns" / "mlflow.db")) as connection:
        return [row[0] for row in connection.execute(query)]


def test_a_copy_points_to_itself_and_leaves_the_original_alone(trained, copy, capfd):
    before = (trained.folder / "mlruns" / "mlflow.db").read_bytes()
    settle(store_of(copy))
    assert capfd.readouterr().err == (
        f"the store has been copied from {trained.folder}/mlruns to {copy}/mlruns: 1 run's artifact location mended\n"
    )
    assert len(locations(copy)) == 4 and all(str(copy) in location for location in locations(copy))
    assert (trained.folder / "mlruns" / "mlflow.db").read_bytes() == before
    settle(store_of(copy))
    settle(trained.uri)
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_after_a_project_was_renamed_its_runs_are_found_and_new_ones_lie_there(trained, copy):
    settle(store_of(copy))
    place = copy.rename(copy.with_name("사진 100% #1 (neu)"))
    evaluated = run(place, "evaluate.py", "run=best", "figures.enabled=false")
    assert evaluated.returncode == 0, evaluated.stderr
    assert evaluated.stderr == (
        f"the store has moved from {copy}/mlruns to {place}/mlruns: 1 run's artifact location mended\n"
    )
    small = ("model=dnn", "model.hidden_units=[8]", "trainer.max_epochs=1", "figures.enabled=false")
    again = run(place, "train.py", *small, "tracking.log_model=false")
    assert again.returncode == 0 and again.stderr == ""
    assert not copy.exists()
    client = open_client(store_of(place))
    (experiment,) = [item for item in client.search_experiments() if item.name == "digits"]
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 2
    for item in runs:
        assert (place / "mlruns" / "artifacts" / "digits" / item.info.run_id / "artifacts" / "config.yaml").is_file()
    (model,) = client.search_logged_models([experiment.experiment_id])
    loaded = mlflow.pyfunc.load_model(model.model_uri)
    assert loaded.predict(np.zeros((3, 1, 28, 28), np.float32)).shape == (3, 10)


def test_of_two_processes_that_start_at_once_one_mends(copy):
    command = [sys.executable, "-c", SETTLE, store_of(copy)]
    processes = [subprocess.Popen(command, env=environment(), stderr=-1, text=True) for _ in range(4)]
    said = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, said
    assert len([line for line in said if "copied from" in line]) == 1 and sorted(said)[:3] == [""] * 3
    assert all(str(copy) in location for location in locations(copy))


def test_a_database_without_its_artifacts_has_not_moved(trained, tmp_path, capfd):
    (tmp_path / "mlruns").mkdir()
    shutil.copy(trained.folder / "mlruns" / "mlflow.db", tmp_path / "mlruns")
    done = run(tmp_path, "evaluate.py", "run=best", "figures.enabled=false")
    assert done.returncode == 0 and done.stderr == ""
    assert locations(tmp_path) == locations(trained.folder)


def test_a_link_to_the_store_is_no_move(trained, tmp_path, capfd):
    (tmp_path / "link").symlink_to(trained.folder / "mlruns")
    settle(f"sqlite:///{tmp_path}/link/mlflow.db")
    assert capfd.readouterr().err == ""


def test_artifacts_that_were_left_behind_are_still_found(trained, copy, capfd):
    settle(store_of(copy))
    run_id = trained.run.info.run_id
    place = copy.with_name("place")
    (place / "mlruns" / "artifacts" / "digits" / "models").mkdir(parents=True)
    (copy / "mlruns" / "mlflow.db").rename(place / "mlruns" / "mlflow.db")
    settle(store_of(place))
    kept = [location for location in locations(place) if run_id in location]
    assert [str(copy) in location for location in kept] == [True]
    capfd.readouterr()
    assert doctor(store_of(place)) == 0
    assert f"still lie in {copy}/mlruns" in capfd.readouterr().out


def test_locations_of_another_layout_are_left_alone(tmp_path, capfd):
    """A bucket, another server's folder, a folder of the user's own; registered versions follow what they are of."""
    first, second = tmp_path / "first" / "mlruns", tmp_path / "second" / "mlruns"
    uri = f"sqlite:///{first}/mlflow.db"
    prepare(uri, "ours")
    (first / "artifacts" / "ours").mkdir(parents=True)
    client = mlflow.MlflowClient(uri)
    foreign = ["s3://bucket/artifacts/x", f"{tmp_path}/other/7", "mlflow-artifacts:/3"]
    for number, location in enumerate(foreign):
        client.create_experiment(f"theirs {number}", location)
    client.create_registered_model("digits")
    client.create_model_version("digits", f"{first}/artifacts/ours/models/m-1/artifacts")
    first.parent.rename(second.parent)
    settle(f"sqlite:///{second}/mlflow.db")
    assert "0 runs' artifact locations mended" in capfd.readouterr().err
    client = open_client(f"sqlite:///{second}/mlflow.db")
    found = {item.name: item.artifact_location for item in client.search_experiments()}
    assert found["ours"] == (second / "artifacts" / "ours").as_uri()
    assert [found[f"theirs {number}"] for number in range(len(foreign))] == foreign
    assert client.get_model_version("digits", "1").source == f"{second}/artifacts/ours/models/m-1/artifacts"


def test_the_address_of_a_file_leads_back_to_it(tmp_path):
    file = tmp_path / "100%20 what?" / "x.db"
    assert sqlite_file(uri_of(file)) == file
    assert absolute_uri(uri_of(file)) == uri_of(file)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_store_that_cannot_be_written_says_so_and_is_read(copy):
    store = copy / "mlruns"
    subprocess.run(["mount", "--bind", str(store), str(store)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(store)], check=True)
        done = run(copy, "evaluate.py", "run=best", "figures.enabled=false")  # the original is where it was
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("\n") == 1 and "Read-only file system" in done.stderr
    finally:
        subprocess.run(["umount", "--lazy", str(store)], check=True)
