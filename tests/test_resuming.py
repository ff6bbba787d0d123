"""A training that was stopped goes on, and ends as if it had never been; as a user types and reads it."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from cnnlab.slurm import requeue
from commands import run

GIVEN = (
    *("model=dnn", "model.hidden_units=[12]", "regularization.dense_dropout=0.3", "augmentation=shift"),
    *("trainer.max_epochs=12", "callbacks=last_checkpoint", "callbacks.ema_decay=0.9", "scheduler=cosine"),
    *("tracking.log_model=false", "figures.enabled=false", "tracking.system_metrics=false"),
)
TIMED = ("epoch_seconds", "train/samples_per_second", "training_seconds")
BREAKING = """
import pytorch_lightning as pl


class Breaks(pl.Callback):
    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch == 2:
            next(module.parameters()).data.fill_(float("nan"))
"""
AFTER_TWO = "outputs/*/*/checkpoints/epoch_02*"


def history(folder: Path) -> dict[str, list[tuple[str, int, float]]]:
    """Return the metrics of each run of a folder but those of time: name, step and value, in their order.

    Of what came out of a run, at step 0, the last: one that was stopped had come to something else.
    """
    with sqlite3.connect(folder / "mlruns" / "mlflow.db") as database:
        runs = [name for (name,) in database.execute("select run_uuid from runs order by start_time")]
        rows = database.execute(
            "select run_uuid, key, step, value, timestamp from metrics where step > 0 union all "
            "select run_uuid, key, step, value, timestamp from latest_metrics where step = 0 order by 2, 3, 5"
        ).fetchall()
    return {name: [tuple(row[1:4]) for row in rows if row[0] == name and row[1] not in TIMED] for name in runs}


def only_history(folder: Path) -> list[tuple[str, int, float]]:
    (rows,) = history(folder).values()
    return rows


def tags(folder: Path, run_id: str) -> dict[str, str]:
    with sqlite3.connect(folder / "mlruns" / "mlflow.db") as database:
        return dict(database.execute("select key, value from tags where run_uuid = ?", (run_id,)).fetchall())


def status(folder: Path) -> dict[str, str]:
    with sqlite3.connect(folder / "mlruns" / "mlflow.db") as database:
        return dict(database.execute("select run_uuid, status from runs order by start_time").fetchall())


def checkpoint(folder: Path, pattern: str) -> dict[str, object]:
    (file,) = folder.glob(f"outputs/*/*/checkpoints/{pattern}")
    return torch.load(file, weights_only=True)


def same_checkpoints(folder: Path, other: Path, pattern: str) -> None:
    """Assert that two checkpoints say the same of weights, average, optimizer, schedule, callbacks, random numbers."""
    one, two = checkpoint(folder, pattern), checkpoint(other, pattern)
    for key in ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers", "epoch"):
        assert repr(flat(one.get(key))) == repr(flat(two.get(key))), key
    kept = [content["callbacks"]["LastCheckpoint"]["random"] for content in (one, two)]
    assert repr(flat(kept[0])) == repr(flat(kept[1]))


def flat(value: object) -> object:
    """Return a value with every tensor as its numbers."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {str(key): flat(item) for key, item in value.items()}
    return [flat(item) for item in value] if isinstance(value, list | tuple) else value


def kill(folder: Path, pattern: str, *given: str) -> str:
    """Kill a training once a file is there, and return its run."""
    assert run(folder, "train.py", *given, stop=(signal.SIGKILL, pattern, 0.0)).returncode == -signal.SIGKILL
    (run_id,) = status(folder)
    return run_id


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A folder with one run that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(folder, "train.py", *GIVEN).returncode == 0
    return folder


@pytest.fixture
def killed(tmp_path) -> tuple[Path, str]:
    """A folder with the same run, killed after its second epoch, and its id."""
    return tmp_path, kill(tmp_path, AFTER_TWO, *GIVEN)


def refused(folder: Path, *overrides: str) -> str:
    done = run(folder, "train.py", *overrides)
    assert (done.returncode, done.stdout) == (2, ""), done
    return done.stderr


def test_a_killed_run_goes_on_in_the_same_run_and_ends_bit_for_bit_as_an_uninterrupted_one(whole, killed):
    folder, run_id = killed
    done = run(folder, "train.py", f"resume={run_id}")
    assert done.returncode == 0, done.stderr
    assert f"resume {run_id}" in done.stdout and "of 12 are done" in done.stdout
    assert "epoch  1/12" not in done.stdout and "epoch 12/12" in done.stdout
    assert status(folder) == {run_id: "FINISHED"}
    assert only_history(folder) == only_history(whole)
    for pattern in ("epoch_12*", "last.ckpt"):
        same_checkpoints(folder, whole, pattern)
    names = [sorted(path.name for path in place.glob("outputs/*/*/checkpoints/*")) for place in (folder, whole)]
    assert names[0] == names[1]
    assert tags(folder, run_id)["resumed"] in ("1", "2", "3", "4")
    assert len(list(folder.glob("outputs/*/*"))) == 1, "no second folder"


def test_the_same_again_is_refused_since_the_run_has_finished(whole):
    (run_id,) = status(whole)
    assert "has finished; to go on beyond its 12 epochs give a larger trainer.max_epochs" in refused(
        whole, f"resume={run_id}"
    )
    assert refused(whole, "resume=last") == "error: resume=last: every run of train.py has finished\n"


def test_last_takes_the_latest_that_has_not_finished(killed):
    folder, run_id = killed
    assert run(folder, "train.py", *GIVEN, "seed=1", "trainer.max_epochs=1").returncode == 0
    done = run(folder, "train.py", "resume=last")
    assert done.returncode == 0 and f"resume {run_id}" in done.stdout
    assert set(status(folder).values()) == {"FINISHED"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["optimizer.lr=0.5"], "goes on as it began: optimizer.lr=0.5, in the run 0.001; for other settings begin"),
        (["model.hidden_units=[4]"], "model.hidden_units=[4], in the run [12]"),
        (["trainer.max_epochs=19"], "trainer.max_epochs=19, in the run 12"),
        (["like=last"], "resume=RUN and like both say where to start"),
        (["experiment=mnist_dnn"], "both say where to start; give one"),
    ],
)
def test_a_run_that_goes_on_is_the_same_training(killed, given, words):
    folder, run_id = killed
    assert words.replace("RUN", run_id) in refused(folder, f"resume={run_id}", *given)
    assert len(list(folder.glob("outputs/*/*"))) == 1, "nothing is left of a refused command"


def test_a_damaged_state_leaves_the_one_before_and_that_is_said(whole, killed):
    folder, run_id = killed
    (last,) = folder.glob("outputs/*/*/checkpoints/last.ckpt")
    last.write_bytes(last.read_bytes()[:2000])
    done = run(folder, "train.py", f"resume={run_id}")
    assert done.returncode == 0, done.stderr
    assert f"{last} cannot be read" in done.stdout
    assert only_history(folder) == only_history(whole)
    same_checkpoints(folder, whole, "epoch_12*")


def test_without_any_state_the_run_begins_anew_in_itself(whole, killed):
    folder, run_id = killed
    for file in folder.glob("outputs/*/*/checkpoints/*last.ckpt"):
        file.write_bytes(b"")
    done = run(folder, "train.py", f"resume={run_id}")
    assert done.returncode == 0, done.stderr
    assert "none of its epochs had ended, it begins anew" in done.stdout
    assert only_history(folder) == only_history(whole)
    same_checkpoints(folder, whole, "epoch_12*")


class Hostile:
    """Runs a command where it is unpickled."""

    def __init__(self, place: Path):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


def test_a_state_that_somebody_has_exchanged_runs_no_code(whole, killed):
    folder, run_id = killed
    for file in folder.glob("outputs/*/*/checkpoints/*last.ckpt"):
        torch.save({"callbacks": Hostile(folder / "executed")}, file)
    done = run(folder, "train.py", f"resume={run_id}")
    assert done.returncode == 0 and "cannot be read" in done.stdout
    assert not (folder / "executed").exists()
    assert only_history(folder) == only_history(whole)


def test_other_images_are_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(12):
            colour = number * 20 if name == "a" else 255 - number * 20
            Image.new("L", (8, 8), colour).save(tmp_path / "photos" / name / f"{number}.png")
    given = ["dataset=image_folder", "dataset.path=photos", "dataset.name=mine", *GIVEN]
    assert run(tmp_path, "train.py", *given, stop=(signal.SIGKILL, AFTER_TWO, 0.0)).returncode == -signal.SIGKILL
    (run_id,) = status(tmp_path)
    Image.new("L", (8, 8), 77).save(tmp_path / "photos" / "a" / "new.png")
    assert f"resume={run_id} was trained on other images of mine" in refused(tmp_path, f"resume={run_id}")


def test_a_finished_run_is_extended_by_another_one_that_is_what_a_longer_one_would_be(tmp_path):
    given = [*GIVEN, "scheduler=none", "callbacks=best_checkpoint"]
    longer, extended = tmp_path / "longer", tmp_path / "extended"
    longer.mkdir()
    extended.mkdir()
    assert run(longer, "train.py", *given, "trainer.max_epochs=5").returncode == 0
    assert run(extended, "train.py", *given, "trainer.max_epochs=3").returncode == 0
    (first,) = status(extended)
    done = run(extended, "train.py", f"resume={first}", "trainer.max_epochs=5")
    assert done.returncode == 0, done.stderr
    assert f"extend {first}" in done.stdout and "3 epochs of 5 are done" in done.stdout
    _, second = status(extended)
    assert tags(extended, second)["extends"] == first
    assert history(extended)[second] == only_history(longer)
    for best in extended.glob("outputs/*/*/checkpoints/epoch_*"):
        best.unlink()
    said = refused(extended, f"resume={first}", "trainer.max_epochs=5")
    assert "its best checkpoint is no longer in " in said and f"begin anew: python train.py like={first}" in said


def test_a_run_that_stopped_early_is_extended_too(tmp_path):
    given = [*GIVEN, "callbacks=early_stopping", "callbacks.early_stopping.patience=0", "optimizer.lr=0.3"]
    assert run(tmp_path, "train.py", *given, "scheduler=none", "trainer.max_epochs=50").returncode == 0
    (first,) = status(tmp_path)
    epochs = max(step for name, step, _ in only_history(tmp_path) if name == "train/loss")
    assert epochs < 50
    done = run(tmp_path, "train.py", f"resume={first}", "trainer.max_epochs=60")
    assert done.returncode == 0, done.stderr
    assert f"epoch {epochs + 1:2}/60" in done.stdout


def test_a_schedule_that_has_ended_is_not_extended(whole):
    (run_id,) = status(whole)
    said = refused(whole, f"resume={run_id}", "trainer.max_epochs=19")
    assert f"come to the end of scheduler=cosine; to train longer begin anew: python train.py like={run_id}" in said


def test_stopped_early_and_then_killed_it_does_not_train_further(tmp_path):
    given = [*GIVEN, "callbacks=early_stopping", "callbacks.early_stopping.patience=0", "optimizer.lr=0.3"]
    given += ["scheduler=none", "trainer.max_epochs=50"]
    (tmp_path / "whole").mkdir()
    assert run(tmp_path / "whole", "train.py", *given).returncode == 0
    epochs = max(step for name, step, _ in only_history(tmp_path / "whole") if name == "train/loss")
    assert epochs < 50
    folder = tmp_path / "killed"
    folder.mkdir()
    pattern = "outputs/*/*/predictions.npz"  # training has ended and the test split is read
    kill(folder, pattern, *given)
    done = run(folder, "train.py", "resume=last")
    assert done.returncode == 0, done.stderr
    assert "epoch " not in done.stdout.partition("MLflow run")[2].partition("test/acc")[0]
    assert only_history(folder) == only_history(tmp_path / "whole")


def test_a_loss_that_is_no_number_ends_the_run_with_epoch_step_and_rate(tmp_path):
    given = ["model=dnn", "optimizer=sgd", "optimizer.momentum=0", "tracking.log_model=false", "figures.enabled=false"]
    done = run(tmp_path, "train.py", *given, "optimizer.lr=1e30", "trainer.max_epochs=3")
    assert done.returncode == 1, done
    first, *rest = done.stderr.splitlines()
    assert first.startswith("error: the loss is nan in epoch 1, step ")
    assert "at a learning rate of 1e+30: the training has diverged; a smaller optimizer.lr" in first
    assert any("no epoch had ended" in line for line in rest)
    assert list(status(tmp_path).values()) == ["FAILED"]


def test_a_run_of_which_the_best_epoch_is_kept_tests_it_when_it_diverges_later(tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    (own / "breaking.py").write_text(BREAKING)
    given = ["model=dnn", "tracking.log_model=false", "figures.enabled=false", "trainer.max_epochs=5"]
    given += ["+callbacks.breaks._target_=breaking.Breaks", f"--config-dir={own}"]
    done = run(tmp_path, "train.py", *given)
    assert done.returncode == 1, done
    assert done.stderr.startswith("error: the loss is nan in epoch 3, step 1 of ")
    (run_id,) = status(tmp_path)
    assert f"MLflow run {run_id} is FAILED; kept is the checkpoint of epoch 2" in done.stderr
    assert run(tmp_path, "evaluate.py", f"run={run_id}", "figures.enabled=false").returncode == 0


def slurm(folder: Path, **variables: str) -> dict[str, str]:
    """Return the environment of a SLURM job whose scontrol only says what it was asked."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    (programs / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\n')
    (programs / "scontrol").chmod(0o755)
    return {"SLURM_JOB_ID": "7", "PATH": f"{programs}:{os.environ['PATH']}"} | variables


def test_slurm_queues_a_job_again_whose_time_is_up_and_the_same_command_goes_on(whole, tmp_path):
    stopped = run(tmp_path, "train.py", *GIVEN, stop=(signal.SIGUSR1, AFTER_TWO, 0.0), **slurm(tmp_path))
    assert stopped.returncode == 128 + signal.SIGUSR1, stopped
    assert "SLURM job 7 is queued again and will go on with the run" in stopped.stderr
    assert (tmp_path / "asked").read_text() == "requeue 7\n"
    (run_id,) = status(tmp_path)
    assert status(tmp_path) == {run_id: "KILLED"}
    again = run(tmp_path, "train.py", *GIVEN, **slurm(tmp_path, SLURM_RESTART_COUNT="1"))
    assert again.returncode == 0 and f"resume {run_id}" in again.stdout, again
    assert status(tmp_path) == {run_id: "FINISHED"}
    assert only_history(tmp_path) == only_history(whole)


@pytest.mark.parametrize(("left", "asked"), [(30, True), (3600, False)])
def test_sigterm_means_the_end_of_a_slurm_job_only_at_its_end(tmp_path, monkeypatch, left, asked):
    for name, value in slurm(tmp_path, SLURM_JOB_END_TIME=str(int(time.time()) + left)).items():
        monkeypatch.setenv(name, value)
    assert bool(requeue("SIGTERM")) == (tmp_path / "asked").exists() == asked
    assert requeue("SIGINT") == []
