"""Thirty kills at random moments of a training, each gone on with: all end as the training that nobody killed."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

from commands import run
from test_resuming import GIVEN, only_history, same_checkpoints, status

pytestmark = pytest.mark.slow

KILLS = 30
BEGUN = "mlruns/artifacts/*/*/artifacts/config.yaml"  # from here on there is something to go on with


def test_thirty_kills_at_random_moments_change_nothing(tmp_path):
    whole = tmp_path / "whole"
    whole.mkdir()
    assert run(whole, "train.py", *GIVEN).returncode == 0
    (begun,) = whole.glob(BEGUN)
    longest = max(file.stat().st_mtime for file in whole.rglob("*.npz")) - begun.stat().st_mtime
    source = random.Random(12)
    killed = 0
    for number in range(2 * KILLS):
        folder = tmp_path / str(number)
        folder.mkdir()
        stop = (signal.SIGKILL, BEGUN, source.uniform(0, longest))
        code = run(folder, "train.py", *GIVEN, stop=stop).returncode
        if code == 0:  # it had ended before
            continue
        assert code == -signal.SIGKILL
        killed += 1
        resumed(folder)
        assert only_history(folder) == only_history(whole), number
        for pattern in ("epoch_12*", "last.ckpt"):
            same_checkpoints(folder, whole, pattern)
        if killed == KILLS:
            return
    pytest.fail(f"only {killed} of {KILLS} were killed before they had ended")


def resumed(folder: Path) -> None:
    (run_id,) = status(folder)
    done = run(folder, "train.py", f"resume={run_id}")
    assert done.returncode == 0, done.stderr
    assert status(folder) == {run_id: "FINISHED"}
