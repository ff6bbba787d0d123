"""The store is created once, however many processes meet it absent."""

from __future__ import annotations

import multiprocessing
import socket
import subprocess
import sys
import time
import urllib.request

import mlflow
import psutil
import pytest

from cnnlab.errors import UsageError
from cnnlab.tracking import database
from cnnlab.tracking.store import check_address, default_uri, page_of, prepare
from cnnlab.tracking.ui import check_port
from commands import composed, environment
from copied_stores import make_by_steps
from warm import is_warm


@pytest.mark.slow
def test_five_processes_create_one_store_and_one_experiment(tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path}/deep/folder/mlflow.db"
    monkeypatch.setattr(database, "make", make_by_steps)  # as a user's processes do, and not as a copy
    fork = multiprocessing.get_context("fork")
    together, answers = fork.Barrier(5), fork.Queue()

    def work() -> None:
        together.wait()
        answers.put(prepare(uri, "together"))

    processes = [fork.Process(target=work) for _ in range(5)]
    for process in processes:
        process.start()
    assert len({answers.get(timeout=120) for _ in processes}) == 1
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 5
    (experiment,) = [item for item in mlflow.MlflowClient(uri).search_experiments() if item.name == "together"]
    assert experiment.artifact_location == (tmp_path / "deep" / "folder" / "artifacts" / "together").as_uri()


@pytest.mark.parametrize("uri", ["mlruns", "file:///tmp/mlruns", "sqlite3:///x.db", ""])
def test_refuses_an_address_mlflow_cannot_write_to(uri):
    (line,) = check_address(uri)
    assert repr(uri) in line and "sqlite:///FILE" in line


def test_refuses_a_file_that_is_no_database(tmp_path):
    (tmp_path / "mlflow.db").write_text("this is not a database, and long enough to be read as a header")
    with pytest.raises(UsageError, match=r"cannot be opened|not a database"):
        prepare(f"sqlite:///{tmp_path}/mlflow.db", "x")


def test_refuses_a_deleted_experiment(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    mlflow.MlflowClient(uri).delete_experiment(prepare(uri, "gone"))
    with pytest.raises(UsageError, match=r"gone.*restore"):
        prepare(uri, "gone")


@pytest.mark.slow
def test_ui_serves_a_store_that_was_not_there(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "cnnlab.tracking.ui", str(port)], cwd=tmp_path, env=environment(), stdout=-1, stderr=-1
    )
    try:
        for _ in range(300):
            try:
                body = urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).read()
                break
            except OSError:
                assert process.poll() is None, process.communicate()
                time.sleep(0.2)
        assert body == b"OK"
        children = psutil.Process(process.pid).children(recursive=True)
        assert all(map(is_warm, children)), "one process is enough to look at runs"
    finally:
        process.terminate()
        process.wait(timeout=60)
    assert (tmp_path / "mlruns" / "mlflow.db").exists()


@pytest.mark.parametrize("variable", [None, "http://127.0.0.1:5000"])
@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "sweep"])
def test_all_commands_use_one_store(monkeypatch, variable, command):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if variable:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", variable)
    name = ["sweep.name=s"] if command == "sweep" else []
    assert composed(*name, config_name=command)["tracking"]["uri"] == default_uri()


def test_looking_at_an_address_makes_nothing(tmp_path):
    assert check_address(f"sqlite:///{tmp_path}/deep/folder/mlflow.db") == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("port", ["", "abc", "0", "70000"])
def test_ui_refuses_what_is_no_port(port):
    with pytest.raises(UsageError, match="PORT="):
        check_port(port)


def test_ui_on_a_busy_port_is_one_line_and_exit_code_2(tmp_path):
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "cnnlab.tracking.ui", str(port)],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 2
    assert done.stdout == ""
    assert (
        done.stderr == f"error: PORT={port} cannot be used (Address already in use); take another: make ui PORT=5001\n"
    )


def test_the_page_of_a_run_is_where_its_store_is():
    assert page_of("https://host/mlflow/", "3", "ab") == (
        "https://host/mlflow/#/experiments/3/runs/ab?workflowType=machine_learning"
    )
    assert page_of("sqlite:///x.db", "3", "ab").startswith("make ui, then http://127.0.0.1:5000/#/experiments/3")
