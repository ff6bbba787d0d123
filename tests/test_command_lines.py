"""Command lines that cannot work: one line that says why, exit code 2, nothing written."""

from __future__ import annotations

import pytest

from commands import run

QUICK = ("model=dnn", "trainer.max_epochs=1", "figures.enabled=false")
PHOTOS = ("dataset=image_folder",)
STORAGE = ("model=dnn", "search=mlp", "sweep.name=s")


def train(override: str, said: str, *before: str):
    return pytest.param("train.py", (*QUICK, *before, override), said, id=override)


def other(door: str, overrides: tuple[str, ...], said: str):
    return pytest.param(door, overrides, said, id=f"{door} {overrides[-1] if overrides else ''}")


WRONG = [
    # Values of another type.
    train("regularization.l2=abc", "regularization.l2='abc' is not allowed; regularization.l2 takes a number"),
    train("regularization.l2=null", "regularization.l2=null is not allowed"),
    train("regularization.l2=true", "regularization.l2=true is not allowed"),
    train("regularization.l2=inf", "regularization.l2=inf is not allowed"),
    train("regularization=5", "configuration: "),
    train("optimizer.betas=[0.9]", "optimizer.betas=[0.9] is not allowed; optimizer.betas takes 2 values"),
    train("optimizer.betas=0.9", "optimizer.betas=0.9 is not allowed"),
    train("optimizer.betas=[0.9,a]", "optimizer.betas=[0.9, 'a'] is not allowed"),
    train("optimizer.betas={a:1}", "configuration: "),
    train("optimizer.lr=null", "optimizer.lr=null is not allowed"),
    train("optimizer.lr={a:1}", "optimizer.lr={'a': 1} is not allowed"),
    train("optimizer=null", "configuration: "),
    train("batch_size={a:1}", "batch_size={'a': 1} is not allowed"),
    train("batch_size=[1]", "batch_size=[1] is not allowed"),
    train("batch_size=1.5", "batch_size=1.5 is not allowed"),
    train("batch_size=", "batch_size='' is not allowed"),
    train("dataset.path=5", "dataset.path belongs to dataset=image_folder"),
    train("dataset.path=5", "dataset.path=5 is not a directory", *PHOTOS),
    train("dataset.max_pixels=0", "dataset.max_pixels=0 is not allowed", *PHOTOS, "dataset.path=5"),
    train("dataset.root=null", "dataset.root=null is not allowed"),
    train("dataset=null", "configuration: "),
    train("dataset.validation=5", "dataset.validation=5 is not allowed"),
    train(
        "batch_size=34", "batch_size=34 leaves one of 1293 training images", "model=mlp", "model.normalization=batch"
    ),
    train("seed=1.0", "seed=1.0 is not allowed"),
    train("seed=${nowhere}", "configuration: Interpolation key 'nowhere' not found"),
    train("seed=???", "configuration: Missing mandatory value: seed"),
    train("model.filters=[[4]]", "model.filters=[[4]] is not allowed", "model=simple_cnn"),
    train("metrics=[abc]", "metrics='abc' is unknown"),
    train("loggers=5", "loggers=5 is not allowed"),
    train("callbacks.checkpoint=5", "callbacks.checkpoint=5 is not allowed"),
    # Removed keys.
    train("~batch_size", "batch_size is missing"),
    train("~optimizer.lr", "optimizer.lr is missing"),
    train("~optimizer", "optimizer is missing"),
    train("~seed", "configuration: Interpolation key 'seed' not found"),
    train("~trainer.devices", "trainer.devices is missing"),
    train("~callbacks", "callbacks is missing"),
    train("~hydra", "configuration: Could not delete 'hydra'"),
    # Devices, precisions and flags that are not there.
    train("trainer.accelerator=tpu", "trainer.accelerator=tpu"),
    train("trainer.accelerator=hpu", "trainer.accelerator=hpu"),
    train("trainer.precision=transformer-engine", "trainer.precision=transformer-engine"),
    train("trainer.precision=abc", "trainer.precision=abc"),
    train("trainer.devices=1.5", "trainer.devices=1.5 is not allowed; trainer.devices takes a whole number, or a text"),
    train("trainer.strategy=deepspeed", "trainer.strategy=deepspeed"),
    train("trainer.strategy=ddp_spawn", "trainer.strategy='ddp_spawn': trains in copies of this process"),
    train("trainer.num_nodes=2", "trainer.num_nodes=2, but nothing says where the other machines are"),
    train("+trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches=0 is not allowed"),
    train("+trainer.accumulate_grad_batches=abc", "trainer.accumulate_grad_batches='abc' is not allowed"),
    train("+trainer.limit_train_batches=0", "trainer.limit_train_batches=0 is not allowed"),
    train("+trainer.limit_val_batches=1.5", "trainer.limit_val_batches=1.5 is not allowed"),
    train("+trainer.gradient_clip_algorithm=abc", "trainer.gradient_clip_algorithm='abc' is not allowed"),
    train("+trainer.max_steps=0", "trainer.max_steps=0 is not allowed"),
    train("+trainer.max_steps=5", "trainer.max_steps=5 ends the training within its first epoch"),
    train("+trainer.detect_anomaly=abc", "trainer.detect_anomaly='abc' is not allowed"),
    train("+trainer.fast_dev_run=true", "trainer.fast_dev_run=True: every run here"),
    train("+trainer.check_val_every_n_epoch=2", "trainer.check_val_every_n_epoch=2: every run here"),
    train("+trainer.callbacks=[]", "trainer.callbacks is no flag"),
    train("+trainer.plugins=abc", "trainer.accelerator=auto"),
    # Addresses.
    train("tracking.uri=sqlite:////tmp", "tracking.uri='sqlite:////tmp' is a folder; name the file in it"),
    train("tracking.uri=5", "tracking.uri='5' is not an address"),
    other("sweep.py", (*STORAGE, "sweep.storage=postgresql://u:secret@h:port/db"), "sweep.storage='postgresql://***@"),
    other("sweep.py", (*STORAGE, "sweep.storage=sqlite:////tmp"), "sweep.storage='sqlite:////tmp': /tmp is a folder"),
    other("sweep.py", (*STORAGE, "sweep.storage=redis://x"), "sweep.storage='redis://x' is not an address"),
    other("sweep.py", (*STORAGE, "sweep.storage=sqlite:////proc/x/y.db"), "sweep.storage='sqlite:////proc/x/y.db': "),
    other("evaluate.py", ("run=best", "tracking.uri=5"), "tracking.uri='5' is not an address"),
    # Folders.
    train("--config-dir=nowhere", "configuration: Additional config directory"),
    train("--config-dir=", "--config-dir= names no folder"),
    train("hydra.run.dir=/proc/x", "hydra.run.dir: /proc/x cannot be made (No such file or directory)"),
    train("hydra.run.dir=/dev/null/x", "hydra.run.dir: /dev/null/x cannot be made (Not a directory)"),
    other("predict.py", ("run=best", "image=x.png", "hydra.run.dir=/proc/x"), "hydra.run.dir: /proc/x cannot be made"),
    other("export.py", ("run=best", "hydra.run.dir=/proc/x"), "hydra.run.dir: /proc/x cannot be made"),
    # Keys that nobody reads.
    train("+foo=1", "foo is no setting"),
    train("++foo=1", "foo is no setting"),
    train("+foo.bar=1", "foo is no setting"),
    train("+dataset.foo=1", "dataset.foo is no setting"),
    train("+optimizer.foo=1", "optimizer.foo is no setting"),
    train("+tracking.foo=1", "tracking.foo is no setting"),
    train("+hydra.foo=1", "+hydra.foo=1: Hydra has no such setting"),
    other("evaluate.py", ("run=best", "+foo=1"), "foo is no setting"),
    other("sweep.py", (*STORAGE, "+sweep.foo=1"), "sweep.foo is no setting"),
    other("sweep.py", (*STORAGE, "+sampler.foo=1"), "sampler: "),
    # What is said of other things than settings.
    train("seed=1,2", "configuration: Ambiguous value"),
    train("--foo", "option='--foo' is unknown"),
    train("batch_size", "'batch_size' is too many"),
    other("evaluate.py", ("checkpoint=nowhere.ckpt",), "checkpoint=nowhere.ckpt is not a file"),
    other("predict.py", ("run=best", "~invert"), "invert is missing"),
    other("export.py", ("run=best", "format=abc"), "format='abc' is unknown"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("door", "overrides", "said"), WRONG)
def test_is_refused_in_one_line_and_leaves_nothing(tmp_path, door, overrides, said):
    done = run(tmp_path, door, *overrides)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {said}") or f" {said}" in line, line
    assert "secret" not in line
    assert list(tmp_path.iterdir()) == []


def test_a_multirun_whose_jobs_are_all_refused_leaves_nothing(tmp_path):
    done = run(tmp_path, "train.py", *QUICK, "-m", "seed=-1,-2")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_in_mlflows_database_and_runs_in_a_sweeps_are_refused(tmp_path, trained):
    before = trained.run.info.run_id
    done = run(tmp_path, "sweep.py", *STORAGE, f"sweep.storage='{trained.uri}'")
    assert done.returncode == 2 and "is MLflow's database; studies take a file of their own" in done.stderr
    assert list(tmp_path.iterdir()) == [] and trained.run.info.run_id == before


def test_an_interpolation_on_the_command_line_means_the_configuration(tmp_path):
    done = run(tmp_path, "train.py", *QUICK, "seed=${dataset.batch_size}", "batch_size=0")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: batch_size=0 is not allowed")
