"""Several machines of one training: they wait for each other, but not for ever, and leave nothing behind."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from lightning_utilities.core.rank_zero import rank_zero_only

from cnnlab import meeting, training
from cnnlab.errors import UsageError
from commands import job
from tracking_server import free_port

TWO = ("model=dnn", "trainer.num_nodes=2", "trainer.accelerator=cpu", "trainer.strategy=ddp")


def test_machines_that_come_go_on_together():
    port = free_port()
    with ThreadPoolExecutor() as pool:
        found = [pool.submit(meeting.meet, "127.0.0.1", port, number, 2, 30.0) for number in (1, 0)]
        assert all(item.result() for item in found)


@pytest.mark.parametrize(
    ("number", "words"), [(0, "1 of 2 machines have come"), (1, "the first of 2 machines does not answer")]
)
def test_a_machine_that_stays_alone_says_so_and_leaves_nothing(tmp_path, monkeypatch, number, words):
    port = free_port()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(meeting, "SECONDS", 1.0)
    monkeypatch.setattr(rank_zero_only, "rank", 0)  # where Lightning notes which process this is, for good
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": number}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(UsageError, match=re.escape(f"trainer.num_nodes: at 127.0.0.1:{port} {words} within 1 sec")):
        training.train(job("train", tmp_path / "outputs", *TWO))
    assert not list(tmp_path.iterdir())
