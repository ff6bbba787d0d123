"""Processes of one training that die, stop answering or are interrupted: what becomes of the run and of the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import psutil
import pytest

from cnnlab.tracking.schema import Tag
from commands import ROOT, environment, run
from test_resuming import only_history, same_checkpoints
from tracking_server import free_port

pytestmark = pytest.mark.slow

SOON = 60  # seconds in which all has to be over
PARTS = (
    "model=dnn",
    "trainer.max_epochs=1000",
    "callbacks=last_checkpoint",
    "figures.enabled=false",
    "tracking.log_model=false",
    "tracking.system_metrics=false",
    "trainer.accelerator=cpu",
    "trainer.devices=2",
    "trainer.strategy=ddp",
)
DIRECT = [sys.executable]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


class Training:
    """A training on two processes, started by `launcher`; `ranks` are the processes in their order."""

    def __init__(self, folder: Path, launcher: list[str], *parts: str) -> None:
        self.folder = folder
        self.said, self.problems = folder / "said.txt", folder / "problems.txt"
        with self.said.open("w") as said, self.problems.open("w") as problems:
            self.process = subprocess.Popen(
                [*launcher, str(ROOT / "train.py"), *PARTS, *parts],
                cwd=folder,
                env=environment(PYTHONUNBUFFERED="1"),
                stdout=said,
                stderr=problems,
                start_new_session=True,
            )
        self.ranks: list[psutil.Process] = []
        self.all: list[psutil.Process] = []

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 180
        while text not in self.said.read_text():
            assert self.process.poll() is None and time.monotonic() < deadline, self.problems.read_text()
            time.sleep(0.1)
        first = psutil.Process(self.process.pid)
        below = first.children(recursive=True)
        self.all = [first, *below]
        named = [each for each in below if any("train.py" in part or "cnnlab.rank" in part for part in each.cmdline())]
        self.ranks = named if len(named) == 2 else [first, *named]
        assert len(self.ranks) == 2

    def end(self) -> int:
        """Wait until all processes are gone; return the exit code of the first."""
        code = self.process.wait(SOON)
        _, left = psutil.wait_procs(self.all, timeout=SOON)
        assert not [each for each in left if each.status() != psutil.STATUS_ZOMBIE]
        return code

    def run(self) -> mlflow.entities.Run:
        [run] = mlflow.MlflowClient(f"sqlite:///{self.folder}/mlruns/mlflow.db").search_runs(["1"])
        return run

    def told(self) -> list[str]:
        """Return the lines of our processes on stderr; there is no traceback but torchrun's own."""
        said = self.problems.read_text().splitlines()
        if TORCHRUN[2] not in self.process.args:
            return said
        assert not [line for line in said if "cnnlab" in line and line.lstrip().startswith("File ")]
        return [line for line in said if line.startswith("error:")]


def torchrun(folder: Path, *options: str, parts: tuple[str, ...]) -> subprocess.Popen[str]:
    """Start train.py by torchrun for one epoch."""
    return subprocess.Popen(
        [*TORCHRUN[:3], *options, str(ROOT / "train.py"), *PARTS, "trainer.max_epochs=1", *parts],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_torchrun_on_two_machines_trains_one_run(tmp_path):
    port = free_port()
    nodes = [
        torchrun(
            tmp_path,
            "--nnodes=2",
            f"--node_rank={number}",
            "--nproc_per_node=1",
            f"--rdzv_endpoint=127.0.0.1:{port}",
            "--rdzv_backend=c10d",
            parts=("trainer.devices=1", "trainer.num_nodes=2"),
        )
        for number in range(2)
    ]
    said = [node.communicate(timeout=240)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert sorted(text.count("epoch 1/1") for text in said) == [0, 1]
    [run] = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db").search_runs(["1"])
    assert run.info.status == "FINISHED"
    assert len(list(tmp_path.glob("outputs/*/*"))) == 1, "one folder"


def test_torchrun_with_another_number_of_devices_is_refused_in_one_line(tmp_path):
    node = torchrun(tmp_path, "--nproc_per_node=2", parts=("trainer.devices=1",))
    said = node.communicate(timeout=240)[0]
    told = [line for line in said.splitlines() if line.startswith("error:")]
    assert told == [
        "error: trainer.devices=1 trainer.num_nodes=1, but torchrun has started 2 processes, 2 on this machine; "
        "give trainer.devices=2 trainer.num_nodes=1"
    ]
    assert node.returncode != 0 and not list(tmp_path.iterdir())


def test_a_training_on_two_processes_that_was_killed_goes_on_as_if_nothing_had_happened(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    given = [*PARTS, "trainer.max_epochs=12", "regularization.dense_dropout=0.3", "augmentation=shift"]
    assert run(whole, "train.py", *given).returncode == 0
    stop = (signal.SIGKILL, "outputs/*/*/checkpoints/epoch_02*", 0.0)
    assert run(killed, "train.py", *given, stop=stop).returncode == -signal.SIGKILL
    client = mlflow.MlflowClient(f"sqlite:///{killed}/mlruns/mlflow.db")
    deadline = time.monotonic() + SOON
    while (found := client.search_runs(["1"])[0]).info.status == "RUNNING" and time.monotonic() < deadline:
        time.sleep(0.5)
    assert found.info.status == "FAILED", "the other process has ended it"
    done = run(killed, "train.py", f"resume={found.info.run_id}")
    assert done.returncode == 0, done.stderr
    assert "of 12 are done" in done.stdout and done.stdout.count("epoch 12/12") == 1
    assert only_history(killed) == only_history(whole)
    same_checkpoints(killed, whole, "epoch_12*")


def test_each_job_of_a_multirun_is_one_run_on_both_processes(tmp_path):
    done = run(tmp_path, "train.py", "-m", *PARTS, "trainer.max_epochs=1", "seed=1,2")
    assert (done.returncode, done.stderr) == (0, "")
    runs = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db").search_runs(["1"])
    assert [(each.info.status, each.data.params["seed"]) for each in runs] == [("FINISHED", "2"), ("FINISHED", "1")]
    assert done.stdout.count("epoch 1/1") == 2
    assert [line.split()[:2] for line in done.stdout.splitlines()[-2:]] == [["0", "seed=1"], ["1", "seed=2"]]


@pytest.fixture
def begun(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Training]:
    """A training in its second epoch."""
    training = Training(tmp_path, getattr(request, "param", DIRECT))
    try:
        training.wait_for("epoch    1")
        yield training
    finally:
        for each in training.all or [psutil.Process(training.process.pid)]:
            if each.is_running():
                each.kill()
        training.process.wait()


BOTH = pytest.mark.parametrize("begun", [DIRECT, TORCHRUN], indirect=True, ids=["devices=2", "torchrun"])


@BOTH
def test_a_killed_second_process_ends_the_run_failed(begun):
    begun.ranks[1].kill()
    assert begun.end() == 1
    run = begun.run()
    assert run.info.status == "FAILED"
    told = begun.told()
    if TORCHRUN[2] not in begun.process.args:  # which stops the first one too, before its last words on a busy machine
        assert any(f"MLflow run {run.info.run_id} is FAILED" in line for line in told)


@BOTH
def test_a_killed_first_process_ends_the_run_failed(begun):
    pid = begun.ranks[0].pid
    begun.ranks[0].kill()
    begun.end()
    run = begun.run()
    assert run.info.status == "FAILED"
    assert f"(pid {pid} on " in run.data.tags[Tag.ERROR] and run.data.tags[Tag.ERROR].endswith("is gone")
    assert f"error: the first process of this training (pid {pid}" in begun.told()[0]


@BOTH
def test_ctrl_c_to_the_whole_group_ends_the_run_killed(begun):
    os.killpg(begun.process.pid, signal.SIGINT)
    assert begun.end() != 0
    assert begun.run().info.status == "KILLED"
    assert begun.told()[0] == "error: stopped by SIGINT"


def test_sigterm_to_the_first_process_alone_ends_all(begun):
    begun.ranks[0].terminate()
    assert begun.end() == 128 + signal.SIGTERM
    assert begun.run().info.status == "KILLED"
    assert begun.told()[0] == "error: stopped by SIGTERM"


def test_ctrl_c_ends_a_training_whose_other_process_does_not_answer(begun):
    begun.ranks[1].suspend()
    time.sleep(2)  # the first one waits for it now, in C++
    os.killpg(begun.process.pid, signal.SIGINT)
    assert begun.end() == 128 + signal.SIGINT
    assert begun.run().info.status == "KILLED"
