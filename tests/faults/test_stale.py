"""A process that was killed left its run RUNNING: the next command on this machine ends it, and no other."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import mlflow
import pytest

from cnnlab import living
from cnnlab.settings.commands import Tracking
from cnnlab.tracking.run import open_run
from cnnlab.tracking.schema import Role, Tag
from cnnlab.tracking.stale import end_stale_runs
from cnnlab.tracking.store import uri_of
from commands import composed, run

EPOCHS = 2


@pytest.fixture
def tracking(tmp_path) -> Tracking:
    uri = uri_of(tmp_path / "mlruns" / "mlflow.db")
    return Tracking.model_validate(composed(f"tracking.uri='{uri}'")["tracking"])


@contextmanager
def process_with_run(tracking: Tracking, tags: dict[str, str]) -> Iterator[tuple[str, Callable[[], None]]]:
    """Open a run in a process of its own, which keeps it open; yield its id and what kills the process."""

    def work() -> None:
        with open_run(tracking, tags) as opened:
            for epoch in range(1, EPOCHS + 1):
                opened.log_metrics(epoch, {"epoch_seconds": 0.1})
            there.send(opened.run_id)
            time.sleep(600)

    here, there = multiprocessing.get_context("fork").Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()

    def kill() -> None:
        process.kill()
        process.join()

    try:
        assert here.poll(60)
        yield here.recv(), kill
    finally:
        kill()


def kept(tracking: Tracking, run_id: str) -> mlflow.entities.Run:
    return mlflow.MlflowClient(tracking.uri).get_run(run_id)


def test_a_killed_run_is_ended_where_it_last_told_of_itself_and_a_living_one_is_left_alone(tracking, tmp_path):
    with process_with_run(tracking, {}) as (run_id, kill):
        assert end_stale_runs(tracking.uri) == []
        assert list((tmp_path / "mlruns").glob(".reserve-*"))
        kill()
        (line,) = end_stale_runs(tracking.uri)
    assert line.startswith(f"run {run_id} (") and f"resume={run_id}" in line
    assert "ended without a word: marked KILLED; continue it: python train.py resume=" in line
    info = kept(tracking, run_id).info
    (*_, last) = mlflow.MlflowClient(tracking.uri).get_metric_history(run_id, "epoch_seconds")
    assert info.status == "KILLED" and info.end_time == last.timestamp and last.step == EPOCHS
    assert not list((tmp_path / "mlruns").glob(".reserve-*"))
    assert end_stale_runs(tracking.uri) == []


def test_sweeps_and_their_trials_are_ended_too(tracking):
    sweep = {Tag.ROLE: Role.SWEEP, Tag.COMMAND: "python sweep.py sweep.name=s"}
    with (
        process_with_run(tracking, sweep) as (sweep_id, end_sweep),
        process_with_run(tracking, {Tag.ROLE: Role.TRIAL}) as (trial_id, end_trial),
    ):
        end_sweep()
        end_trial()
        lines = end_stale_runs(tracking.uri)
    said = {line.split()[1]: line for line in lines}
    assert said[sweep_id].endswith("; continue it by the same command: python sweep.py sweep.name=s")
    assert said[trial_id].endswith("marked KILLED")


@pytest.mark.parametrize(
    ("part", "changed", "gone"),
    [
        ("name", "elsewhere", False),  # another machine's
        ("namespace", "1", False),  # another container's, whose numbers are not ours
        ("boot", "00000000-0000-0000-0000-000000000000", True),  # the machine was started again
        ("machine", "0" * 32, False),  # the same start: it is this machine
        ("machine and boot", "0" * 32, False),  # another machine of the same name
        ("started", "17", True),  # the number was used again
        ("number", str(2**22 + 1), True),  # above the largest there can be
        ("nothing", "", False),
    ],
)
def test_whose_process_is_gone(part, changed, gone, monkeypatch):
    monkeypatch.setattr(living, "_line", {"/etc/machine-id": "a", "/proc/sys/kernel/random/boot_id": "b"}.__getitem__)
    where, number, started = living.this_process().rsplit(" ", 2)
    name, machine, boot, namespace = where.split("/")
    values = {"name": name, "machine": machine, "boot": boot, "namespace": namespace}
    values |= {"number": number, "started": started}
    values |= dict.fromkeys(part.split(" and "), changed)
    place = "/".join(values[key] for key in ("name", "machine", "boot", "namespace"))
    assert living.is_dead(f"{place} {values['number']} {values['started']}") == gone


def test_a_dead_process_that_nobody_buried_is_gone_and_a_stopped_one_is_not():
    child = os.fork()
    if child == 0:
        signal.pause()
    living_child = f"{living.machine()} {child} {living._started(child)}"
    os.kill(child, signal.SIGSTOP)
    assert not living.is_dead(living_child)
    os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert living.is_dead(living_child)
    os.waitpid(child, 0)
    assert living.is_dead(living_child)


@pytest.mark.slow
def test_every_command_that_looks_at_runs_says_it_in_one_line(tracking, tmp_path):
    folder = tmp_path / "mlruns"
    with process_with_run(tracking, {}) as (run_id, kill):
        kill()
    done = run(tmp_path, "train.py", "model=dnn", "trainer.max_epochs=1", "figures.enabled=false")
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if "marked KILLED" in line and run_id in line]
    assert not list(folder.glob(".reserve-*"))
    with process_with_run(tracking, {}) as (run_id, kill):
        kill()
    done = run(tmp_path, "evaluate.py", "run=best", "figures.enabled=false")
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if "marked KILLED" in line and run_id in line]
