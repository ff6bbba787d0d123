"""A run that is stopped keeps what it has, however impatient its user is; the whole of it is in test_training.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from mlflow.exceptions import MlflowException

from cnnlab import stopping
from cnnlab.signals import Interruption, interruptible, notes_of
from cnnlab.stopping import best_checkpoint, keeping_best, what_is_kept
from commands import ROOT, environment

SETTINGS = SimpleNamespace(chosen_monitors=())


def plan_with(folder, named: str, **epochs: int) -> SimpleNamespace:
    """Return a plan whose best checkpoint is `named`, in a folder of checkpoints, the latest first."""
    for age, (name, epoch) in enumerate(epochs.items()):
        torch.save({"epoch": epoch}, folder / f"{name}.ckpt")
        os.utime(folder / f"{name}.ckpt", (1000 - age, 1000 - age))
    checkpoint = SimpleNamespace(dirpath=folder, best_model_path=f"{folder}/{named}.ckpt", monitor="val/loss")
    return SimpleNamespace(checkpoint=checkpoint, trainer=SimpleNamespace(current_epoch=7), settings=SETTINGS)


def test_a_second_signal_tears_nothing_and_takes_no_word_away(monkeypatch):
    def keep(run, plan, status):
        os.kill(os.getpid(), signal.SIGTERM)
        return ["kept"]

    monkeypatch.setattr(stopping, "what_is_kept", keep)
    with pytest.raises(Interruption) as stopped, interruptible(), keeping_best(SimpleNamespace(run_id="abc"), None):
        os.kill(os.getpid(), signal.SIGINT)
    assert stopped.value.name == "SIGINT"
    assert notes_of(stopped.value) == ["kept", "go on with it: python train.py resume=abc"]


def test_words_of_the_first_signal_are_found_behind_the_second():
    with pytest.raises(Interruption) as stopped:
        try:
            first = Interruption(signal.SIGINT)
            first.add_note("kept")
            raise first
        except Interruption:
            raise Interruption(signal.SIGTERM)  # noqa: B904
    assert notes_of(stopped.value) == ["kept"]
    assert notes_of(Interruption(signal.SIGINT)) == []


def test_a_checkpoint_that_is_not_whole_leaves_the_one_before(tmp_path):
    plan = plan_with(tmp_path, "new", old=2, older=1)
    assert best_checkpoint(plan) == (tmp_path / "old.ckpt", 3)
    (tmp_path / "new.ckpt").write_bytes(b"PK half")
    assert best_checkpoint(plan) == (tmp_path / "old.ckpt", 3)
    torch.save({"epoch": 4}, tmp_path / "new.ckpt")
    assert best_checkpoint(plan) == (tmp_path / "new.ckpt", 5)


def test_before_the_first_epoch_there_is_nothing_to_keep(tmp_path):
    (line,) = what_is_kept(SimpleNamespace(run_id="abc"), plan_with(tmp_path / "none", ""), "KILLED")
    assert line == "MLflow run abc is KILLED; no epoch had ended, so no checkpoint is kept"


def test_a_store_out_of_reach_is_told_with_the_checkpoints_place(tmp_path):
    def unreachable(monitors):
        raise MlflowException("no answer")

    run = SimpleNamespace(run_id="abc", history=unreachable, stop_sampling=lambda: None)
    (line,) = what_is_kept(run, plan_with(tmp_path, "best", best=2), "KILLED")
    assert line.endswith(f"the checkpoint of epoch 3 is not in the store, but there: {tmp_path / 'best.ckpt'}")


def test_a_second_signal_ends_at_once_what_takes_long(tmp_path):
    program = """
import os, signal, time
from cnnlab import signals
signals.PATIENCE = 0.2
with signals.interruptible():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except signals.Interruption:
        with signals.deferred():
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGINT)
            print("not reached", flush=True)
"""
    variables = environment(PYTHONPATH=str(ROOT / "src"))
    done = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (130, "")
