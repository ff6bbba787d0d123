"""What a user gets wrong: one line a problem, all of them together, exit code 2, nothing half-written."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnlab.errors import UsageError
from cnnlab.plan import make_plan
from commands import run, settings


def problems(tmp_path: Path, *overrides: str) -> list[str]:
    with pytest.raises(UsageError) as raised:
        make_plan(settings(f"tracking.uri=sqlite:///{tmp_path}/mlruns/mlflow.db", *overrides), tmp_path)
    return raised.value.problems


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("regularization.conv_dropout=-0.1", ["regularization.conv_dropout=-0.1", "at least 0", "below 1"]),
        ("regularization.dense_dropout=1", ["regularization.dense_dropout=1", "below 1"]),
        ("regularization.l2=-1", ["regularization.l2=-1", "at least 0"]),
        ("model.filters=[0]", ["model.filters=[0]", "at least 1"]),
        ("model.filters=abc", ["model.filters='abc'"]),
        ("model.activation=rellu", ["model.activation='rellu'", "did you mean 'relu'?"]),
        ("batch_size=0", ["batch_size=0", "at least 1"]),
        ("batch_size=5000", ["batch_size=5000", "1293"]),
        ("batch_size=abc", ["batch_size='abc'", "whole number"]),
        ("seed=-1", ["seed=-1", "at least 0"]),
        ("optimizer.lr=abc", ["optimizer.lr='abc'", "a number above 0"]),
        ("optimizer.lr=nan", ["optimizer.lr=nan"]),
        ("+optimizer.speed=3", ["optimizer", "speed"]),
        ("+optimizer._target_=torch.optim.Nothing", ["optimizer", "torch.optim.Nothing"]),
        ("trainer.max_epochs=0", ["trainer.max_epochs=0", "at least 1"]),
        ("trainer.devices=4", ["trainer.devices=4", "1 device"]),
        ("trainer.accelerator=gpuu", ["trainer.accelerator=gpuu"]),
        ("trainer.precision=7", ["trainer.precision=7"]),
        ("+trainer.max_epoch=3", ["max_epoch", "did you mean 'max_epochs'?"]),
        ("dataset.scaling=units", ["dataset.scaling='units'", "did you mean 'unit'?"]),
        ("dataset.validation.fraction=1.5", ["dataset.validation.fraction=1.5"]),
        ("dataset.validation.fraction=0", ["callbacks.checkpoint.monitor='val/loss'", "callbacks=last_checkpoint"]),
        ("dataset.validation.fraction=abc", ["dataset.validation.fraction='abc'", "below 1"]),
        ("dataset.validation=null", ["dataset.validation is missing"]),
        ("callbacks.checkpoint=null", ["callbacks.checkpoint is missing"]),
        ("dataset.name=mnits", ["mnits", "did you mean 'mnist'?"]),
        ("callbacks.checkpoint.monitor=test/acc", ["test/acc", "val/acc"]),
        ("callbacks.early_stopping.patience=-1", ["callbacks.early_stopping.patience=-1"]),
        ("tracking.uri=./mlruns", ["tracking.uri='./mlruns'", "sqlite:///FILE"]),
        ("seed=4294967296", ["seed=4294967296", "at most 4294967295"]),
        ("~regularization", ["regularization"]),
    ],
)
def test_says_what_was_given_and_what_is_allowed(tmp_path, override, parts):
    found = problems(tmp_path, override)
    assert any(all(part in line for part in parts) for line in found), found
    assert all("\n" not in line for line in found)


def test_network_too_deep_names_layer_and_shape(tmp_path):
    (line,) = problems(tmp_path, "model.filters=[4,4,4,4,4]")
    assert "pool5" in line and "1x28x28" in line


@pytest.mark.parametrize("option", ["own", "image_folder"])
def test_a_users_images_do_not_go_by_the_name_of_a_built_in_dataset(option):
    given = [f"dataset={option}", "dataset._target_=own.load" if option == "own" else "dataset.path=photos"]
    assert settings(*given).dataset.name == option
    with pytest.raises(UsageError) as raised:
        settings(*given, "dataset.name=digits")
    assert "dataset.name='digits' is the name of a built-in dataset; choose another" in raised.value.problems


def test_all_problems_of_one_command_together(tmp_path):
    given = ("seed=-1", "model.filters=[0]", "optimizer.lr=0", "trainer.devices=4", "dataset.validation.fraction=2")
    found = problems(tmp_path, *given)
    assert len(found) == len(given), found
    for part in given:
        assert sum(part in line for line in found) == 1, (part, found)


def test_command_ends_with_code_2_and_leaves_nothing(tmp_path):
    done = run(tmp_path, "train.py", "seed=-1", "regularization.conv_dropout=2")
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 2 and all(line.startswith("error: ") for line in lines), lines
    assert not list(tmp_path.iterdir())


def test_a_tracking_folder_that_cannot_be_made(tmp_path):
    done = run(tmp_path, "train.py", "tracking.uri=sqlite:////proc/nowhere/mlflow.db")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "/proc/nowhere" in line and "cannot write" in line


def test_tracking_folder_that_is_a_file(tmp_path):
    (tmp_path / "mlruns").write_text("not a folder")
    done = run(tmp_path, "train.py")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and "mlruns" in done.stderr


def test_missing_archives_offline_are_one_line(tmp_path):
    done = run(tmp_path, "train.py", "dataset=mnist", "dataset.download=false", CNNLAB_DATA=str(tmp_path / "nowhere"))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    for part in ("nowhere/MNIST/raw", "train-images-idx3-ubyte.gz", "dataset=digits"):
        assert part in line


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (
            "model=deepcnn",
            "model='deepcnn' is unknown; allowed: cnn_dropout, convnet, deep_cnn, dnn, fashion_cnn, mlp, ",
        ),
        (
            "dataset=mnits",
            "dataset='mnits' is unknown; allowed: cifar10, digits, fashion_mnist, image_folder, kmnist, ",
        ),
        ("modle=mlp", "modle is no setting; did you mean 'model'?"),
        ("epochs=3", "epochs is no setting; did you mean 'trainer.max_epochs'?"),
        ("optimizer.learning_rate=1", "optimizer.learning_rate is no setting; did you mean 'optimizer.lr'?"),
        ("~optimizr", "optimizr is no setting; did you mean 'optimizer'?"),
        ("model.filters=[4", "configuration: "),
        ("+model=mlp", "configuration: Multiple values for model."),
        ("model.filters.9=3", "configuration: Error merging override model.filters.9=3"),
        ("figures=null", "configuration: Config group override must be"),
        ("--config-dir=nowhere", "configuration: Additional config directory"),
    ],
)
def test_what_hydra_cannot_compose_is_one_line_and_exit_code_2(tmp_path, override, line):
    done = run(tmp_path, "train.py", override)
    assert done.returncode == 2
    (said,) = done.stderr.splitlines()
    assert said.startswith(f"error: {line}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", ["+epochs=3", "+continue=last", "+ckpt_path=x", "+callbacks.timer=1"])
def test_a_key_added_with_a_plus_is_refused(tmp_path, key):
    (line,) = problems(tmp_path, key)
    assert line.startswith(f"{key[1:].split('=')[0]} is no setting; allowed: ")
    assert ("did you mean 'trainer.max_epochs'?" in line) == (key == "+epochs=3")
