"""Work in a copy of this process: what it returns, raises and leaves behind."""

from __future__ import annotations

import os
import signal
import time

import pytest
import torch

from cnnlab import beside as module
from cnnlab.beside import beside, can_be_copied
from cnnlab.errors import UsageError

pytestmark = pytest.mark.skipif(not can_be_copied(), reason="one core, or no Linux")


def test_it_is_done_by_another_process_while_this_one_goes_on(tmp_path):
    weights = torch.arange(6.0).view(2, 3)

    def work() -> tuple[int, float]:
        while not (tmp_path / "go").exists():
            time.sleep(0.01)
        return os.getpid(), float((weights @ weights.T).sum())

    with beside(work) as wait:
        (tmp_path / "go").touch()
        process, total = wait()
    assert process != os.getpid() and total == float((weights @ weights.T).sum())


@pytest.mark.parametrize("raised", [UsageError("one", "two"), OSError(28, "No space left on device")])
def test_what_it_raises_is_raised_here(raised):
    def work() -> None:
        raise raised

    with pytest.raises(type(raised)) as caught, beside(work) as wait:
        wait()
    assert str(caught.value) == str(raised) and caught.value.args == raised.args
    assert "in work" in caught.value.__notes__[0]


def test_work_whose_process_is_killed_is_done_here():
    here = os.getpid()

    def work() -> str:
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return "done"

    with beside(work) as wait:
        assert wait() == "done"


def test_a_signal_to_the_group_leaves_the_copy_alone_and_an_early_end_takes_it_along(tmp_path):
    def work() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        (tmp_path / "pid").write_text(str(os.getpid()))
        time.sleep(60)

    with pytest.raises(KeyError), beside(work):
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.01)
        raise KeyError
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_where_there_are_no_copies_it_is_done_when_it_is_waited_for(monkeypatch):
    monkeypatch.setattr(module, "can_be_copied", lambda: False)
    with beside(os.getpid) as wait:
        assert wait() == os.getpid()
