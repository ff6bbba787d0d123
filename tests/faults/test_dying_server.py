"""Whole commands whose tracking server goes away under them: what the user reads, and what arrives in the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import pytest

from commands import environment, run
from tracking_server import Proxy, contents

pytestmark = pytest.mark.slow

EPOCHS = 12
QUICK = ("model=dnn", "figures.enabled=false", "tracking.log_model=false", "tracking.system_metrics=false")
PACED = """
import os
import time
from pathlib import Path
from pytorch_lightning import Callback

class Paced(Callback):
    def on_train_epoch_start(self, trainer, module):
        Path("pid").write_text(str(os.getpid()))
        Path(f"began_{trainer.current_epoch + 1}").touch()
        while not Path(f"go_{trainer.current_epoch + 1}").exists():
            time.sleep(0.01)
"""


class Training:
    """train.py in a process of its own, which goes from epoch to epoch as it is let."""

    def __init__(self, folder: Path, uri: str) -> None:
        (folder / "paced.py").write_text(PACED)
        self.folder = folder
        given = [*QUICK, f"trainer.max_epochs={EPOCHS}", "+callbacks.paced._target_=paced.Paced"]
        self.pool = ThreadPoolExecutor(1)
        self.done = self.pool.submit(run, folder, "train.py", *given, MLFLOW_TRACKING_URI=uri)

    def until(self, epoch: int) -> None:
        """Let it train until this epoch begins, and hold it there."""
        for number in range(1, epoch):
            (self.folder / f"go_{number}").touch()
        while not (self.folder / f"began_{epoch}").exists():
            assert not self.done.done(), self.done.result()
            time.sleep(0.01)

    def interrupt(self) -> None:
        os.kill(int((self.folder / "pid").read_text()), signal.SIGINT)

    def end(self) -> subprocess.CompletedProcess[str]:
        """Let it train to its end; return what it said."""
        for number in range(1, EPOCHS + 1):
            (self.folder / f"go_{number}").touch()
        return self.done.result()


@pytest.fixture
def proxy(server) -> Iterator[Proxy]:
    standing = Proxy(server.port)
    yield standing
    standing.mode = "open"
    standing.close()


@pytest.fixture(scope="module")
def undisturbed(server, tmp_path_factory) -> dict[str, object]:
    """What a server has of a run that nothing disturbed."""
    done = Training(tmp_path_factory.mktemp("undisturbed"), server.uri).end()
    assert (done.returncode, done.stderr) == (0, "")
    return held(server.uri, done.stdout)


def vanish(proxy: Proxy, request: bytes, number: int = 1) -> None:
    """Let a server be gone from the moment it is asked this for the n-th time."""
    asked: list[bytes] = []

    def look(data: bytes) -> None:
        asked.extend([data] if request in data.partition(b"\r\n")[0] else [])
        if len(asked) >= number:
            proxy.mode = "closed"

    proxy.on_request = look


def held(uri: str, said: str) -> dict[str, object]:
    """Return what a server has of the run of a command, but what differs from run to run."""
    found = contents(uri, run_id(said), timed=False)
    found["parameters"].pop("tracking.uri")
    return {key: value for key, value in found.items() if key not in ("tags", "files")} | {"files": [*found["files"]]}


def run_id(said: str) -> str:
    return said.partition("MLflow run ")[2][:32]


def sync(folder: Path) -> subprocess.CompletedProcess[str]:
    """Deliver what waits, as the user is told to."""
    deliver = [sys.executable, "-m", "cnnlab.tracking.sync"]
    return subprocess.run(deliver, cwd=folder, env=environment(), capture_output=True, text=True, check=False)


def test_a_server_killed_and_started_again_three_times_loses_and_doubles_nothing(undisturbed, server, tmp_path):
    training = Training(tmp_path, server.uri)
    for epoch in (2, 6, 10):
        training.until(epoch)
        server.kill()
        training.until(epoch + 1)  # nothing waits for the server
        server.start()
    done = training.end()
    assert (done.returncode, done.stderr) == (0, "")
    assert held(server.uri, done.stdout) == undisturbed


@pytest.mark.parametrize("fault", ["hangs", "answers 500"])
def test_a_training_ends_without_its_server_and_says_what_waits(undisturbed, server, proxy, tmp_path, fault):
    training = Training(tmp_path, proxy.uri)
    training.until(3)
    if fault == "hangs":
        os.killpg(server.process.pid, signal.SIGSTOP)
    else:
        proxy.mode = "error"
    done = training.end()
    os.killpg(server.process.pid, signal.SIGCONT)
    proxy.mode = "open"
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: run {run_id(done.stdout)}: ") and "deliveries wait in mlruns/undelivered/" in line
    assert line.endswith("; deliver them: python -m cnnlab.tracking.sync")
    assert "test/acc" in done.stdout
    delivered = sync(tmp_path)
    assert (delivered.returncode, delivered.stderr) == (0, ""), delivered
    assert held(server.uri, done.stdout) == undisturbed


def test_ctrl_c_while_the_server_is_dead_ends_at_once_and_says_what_waits(server, proxy, tmp_path):
    training = Training(tmp_path, proxy.uri)
    training.until(3)
    proxy.mode = "closed"
    training.until(5)
    training.interrupt()
    done = training.done.result(timeout=60)
    assert done.returncode == 128 + signal.SIGINT
    first, *rest = done.stderr.splitlines()
    assert first == "error: stopped by SIGINT" and "Traceback" not in done.stderr
    name = run_id(done.stdout)
    assert [line for line in rest if line.startswith(f"MLflow run {name} is KILLED; kept is the checkpoint of epoch 4")]
    assert [line for line in rest if line.startswith(f"run {name}: ") and "python -m cnnlab.tracking.sync" in line]
    proxy.mode = "open"
    assert sync(tmp_path).returncode == 0
    assert mlflow.MlflowClient(server.uri).get_run(name).info.status == "KILLED"


@pytest.fixture(scope="module")
def two_runs(server, tmp_path_factory) -> list[str]:
    """Two runs on the server."""
    folder = tmp_path_factory.mktemp("two")
    few = [*QUICK, "trainer.max_epochs=1"]
    done = [run(folder, "train.py", *few, f"seed={seed}", MLFLOW_TRACKING_URI=server.uri) for seed in (0, 1)]
    return [run_id(each.stdout) for each in done]


@pytest.mark.parametrize(
    ("door", "request_line"),
    [
        ("evaluate.py", b"runs/get"),
        ("evaluate.py", b"mlflow-artifacts/artifacts"),
        ("compare.py", b"mlflow-artifacts/artifacts"),
    ],
)
def test_a_command_that_reads_runs_says_in_one_line_that_the_server_is_away(
    two_runs, proxy, tmp_path, door, request_line
):
    vanish(proxy, request_line)
    asked = [f"run={two_runs[0]}", "figures.enabled=false"]
    if door == "compare.py":
        asked = [f"a={two_runs[0]}", f"b={two_runs[1]}"]
    done = run(tmp_path, door, *asked, MLFLOW_TRACKING_URI=proxy.uri)
    assert proxy.mode == "closed" and done.returncode in (1, 2), done
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and proxy.uri in line


def test_a_sweep_whose_server_goes_away_ends_without_a_traceback(server, proxy, tmp_path):
    vanish(proxy, b"runs/create", 3)  # the second trial's
    few = ["search=mlp", "sweep.n_trials=2", "sweep.n_workers=1", "sweep.final_seeds=0", "trainer.max_epochs=1"]
    done = run(tmp_path, "sweep.py", *QUICK, *few, MLFLOW_TRACKING_URI=proxy.uri)
    assert proxy.mode == "closed" and done.returncode in (1, 2), done
    assert "Traceback" not in done.stdout + done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    proxy.on_request, proxy.mode = None, "open"
    assert sync(tmp_path).returncode == 0
    assert not (tmp_path / "mlruns" / "undelivered").exists()
