"""Thirty kills at random moments of a training, each gone on with: all end as the training that nobody killed."""

from __future__ import annotations

import random
import signal

import pytest

from commands import run
from test_resuming import GIVEN, history, only_history, same_checkpoints, status

pytestmark = pytest.mark.slow

KILLS, EPOCHS = 30, 6
LONGEST = 0.3  # seconds from the beginning of an epoch, or of what follows the last one


def moment(source: random.Random, name: str) -> tuple[int, str, float]:
    """Return a signal at a random moment from the first epoch on, when there is something to go on with, to the end."""
    epoch = source.randrange(EPOCHS + 1)
    begun = f"mlruns/artifacts/{name}/*/artifacts/config.yaml"
    if epoch:
        begun = f"{name}/outputs/a/b/checkpoints/epoch_{epoch:02}*"
    return signal.SIGKILL, begun, source.uniform(0, LONGEST)


def given(name: str) -> list[str]:
    """Return the command of a training which has an experiment and a folder by itself: they share one store."""
    where = [f"tracking.experiment_name={name}", f"hydra.run.dir={name}/outputs/a/b"]
    return [*GIVEN, f"trainer.max_epochs={EPOCHS}", *where]


def test_thirty_kills_at_random_moments_change_nothing(tmp_path):
    assert run(tmp_path, "train.py", *given("whole")).returncode == 0
    whole, source, killed = only_history(tmp_path), random.Random(12), 0
    for number in range(2 * KILLS):
        name = str(number)
        code = run(tmp_path, "train.py", *given(name), stop=moment(source, name)).returncode
        if code == 0:  # it had ended before
            continue
        assert code == -signal.SIGKILL
        killed += 1
        run_id = [*status(tmp_path)][-1]
        done = run(tmp_path, "train.py", f"resume={run_id}")
        assert done.returncode == 0, done.stderr
        assert history(tmp_path)[run_id] == whole, number
        for pattern in (f"epoch_{EPOCHS:02}*", "last.ckpt"):
            same_checkpoints(tmp_path / name, tmp_path / "whole", pattern)
        if killed == KILLS:
            assert set(status(tmp_path).values()) == {"FINISHED"}
            return
    pytest.fail(f"only {killed} of {KILLS} were killed before they had ended")
