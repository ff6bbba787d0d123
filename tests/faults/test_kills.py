"""Kills at random moments of every part of a training, each gone on with: all end as one that nobody killed."""

from __future__ import annotations

import random
import signal

import pytest

from commands import run
from test_resuming import GIVEN, history, only_history, same_checkpoints, status

pytestmark = pytest.mark.slow

EPOCHS = 4
# The checkpoints that are there when it comes: each epoch is reached, and, most often, what follows the last one.
PARTS = (*range(EPOCHS), *[EPOCHS] * 5)
LONGEST = 0.3  # seconds from there
TRIES = 4  # of a part, the later ones sooner: it may have ended before


def moment(name: str, part: int, seconds: float) -> tuple[int, str, float]:
    """Return a signal some time after a part has begun; there is something to go on with from the first epoch on."""
    begun = f"mlruns/artifacts/{name}/*/artifacts/config.yaml"
    if part:
        begun = f"{name}/outputs/a/b/checkpoints/epoch_{part:02}*"
    return signal.SIGKILL, begun, seconds


def given(name: str) -> list[str]:
    """Return the command of a training which has an experiment and a folder by itself: they share one store."""
    where = [f"tracking.experiment_name={name}", f"hydra.run.dir={name}/outputs/a/b"]
    return [*GIVEN, f"trainer.max_epochs={EPOCHS}", *where]


def test_kills_at_random_moments_of_every_part_change_nothing(tmp_path):
    assert run(tmp_path, "train.py", *given("whole")).returncode == 0
    whole, source = only_history(tmp_path), random.Random(12)
    for place, part in enumerate(PARTS):
        for attempt in range(TRIES):
            name = f"{place}-{attempt}"
            seconds = source.uniform(0, LONGEST / (1 + attempt))
            code = run(tmp_path, "train.py", *given(name), stop=moment(name, part, seconds)).returncode
            run_id, reached = [*status(tmp_path).items()][-1]
            if code != 0 and reached != "FINISHED":  # between that and the end of the process there is nothing to lose
                break
        assert code == -signal.SIGKILL and reached != "FINISHED", f"{part}: it had ended {TRIES} times before"
        done = run(tmp_path, "train.py", f"resume={run_id}")
        assert done.returncode == 0, done.stderr
        assert history(tmp_path)[run_id] == whole, (part, seconds)
        for pattern in (f"epoch_{EPOCHS:02}*", "last.ckpt"):
            same_checkpoints(tmp_path / name, tmp_path / "whole", pattern)
    assert set(status(tmp_path).values()) == {"FINISHED"}
