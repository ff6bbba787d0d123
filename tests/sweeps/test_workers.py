"""Workers get their share of the machine, and their deaths are noticed."""

from __future__ import annotations

import os
import time

import pytest

from cnnlab.process import available_cores, share, visible_devices
from cnnlab.settings.read import read
from cnnlab.settings.sweep import Sweep, WorkerOrder
from cnnlab.sweeps.workers import WorkerPool, WorkersFailed
from commands import composed


def test_threads_are_divided_and_devices_handed_out_in_turn():
    shares = [share(index, 3, ["0", "GPU-5"]) for index in range(3)]
    assert [given["CUDA_VISIBLE_DEVICES"] for given in shares] == ["0", "GPU-5", "0"]
    assert {given["OMP_NUM_THREADS"] for given in shares} == {"3"}
    groups = [share(index, 3, ["0", "1", "2", "3"], 2)["CUDA_VISIBLE_DEVICES"] for index in range(3)]
    assert groups == ["0,1", "2,3", "0,1"]
    assert "CUDA_VISIBLE_DEVICES" not in share(0, 3, [])


def test_no_devices_are_handed_out_on_the_cpu():
    assert visible_devices("cpu") == []


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind a process to a core")
def test_only_cores_this_process_may_use_count():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_workers_that_cannot_start_are_given_up_with_their_last_words(tmp_path, monkeypatch):
    monkeypatch.setattr("cnnlab.sweeps.workers.DEATHS", 1)
    order = WorkerOrder(
        study="study",
        sweep=read(Sweep, composed("sweep.name=study", config_name="sweep")["sweep"]),
        goals=("val/acc",),
        upward=("val/acc",),
        own_folder=None,
        total=1,
        search=None,
        config="",
        overrides=(),
        contenders={},
        waits=False,
        chosen=(),
        choices={},
        parent_run="none",
        folder=str(tmp_path),
        threads=1,
        since=0,
    )
    order = order.model_copy(update={"total": 0})  # not allowed: every worker dies over it
    with pytest.raises(WorkersFailed, match="greater than or equal to 1"), WorkerPool(order, 1, [], tmp_path) as pool:
        while pool.supervise(False):
            time.sleep(0.1)
    assert (tmp_path / "worker-0.log").read_text().count("Traceback") == 2
