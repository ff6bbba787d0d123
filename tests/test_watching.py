"""Callbacks and loggers of the user's own beside cnnlab's."""

from __future__ import annotations

import csv

import pytest

from cnnlab import process
from cnnlab.errors import UsageError
from cnnlab.plan import make_plan
from cnnlab.training import fit
from cnnlab.training import test_best as best_tested
from commands import settings

CODE = """
import numpy
import pytorch_lightning as pl


class Told(pl.Callback):
    def __init__(self, every, name="told"):
        self.every, self.name = every, name

    def on_train_epoch_end(self, trainer, module):
        if (trainer.current_epoch + 1) % self.every == 0:
            module.log(self.name, float(trainer.current_epoch))


class Kept(pl.Callback):
    def state_dict(self):
        return {"seen": numpy.zeros(3)}


class NoCallback:
    pass


def exits():
    raise SystemExit(3)
"""


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """Return what makes a plan of overrides, with the user's own module on the path."""
    (tmp_path / "watching_code.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    quick = ("model=dnn", "trainer.max_epochs=2", f"tracking.uri=sqlite:///{tmp_path}/mlflow.db")
    return lambda *overrides: make_plan(settings(*quick, *overrides), tmp_path)


def refusal(plan, *overrides: str) -> list[str]:
    with pytest.raises(UsageError) as raised:
        plan(*overrides)
    assert not any("\n" in line for line in raised.value.problems)
    return raised.value.problems


def callback(target: str, key: str = "mine", **arguments: object) -> list[str]:
    keys = {"_target_": f"watching_code.{target}", **arguments}
    return [f"+callbacks.{key}.{name}={value}" for name, value in keys.items()]


def test_a_callback_of_the_users_own_is_called_with_its_arguments_and_what_it_logs_is_kept(plan):
    epochs = {}
    made = plan(*callback("Told", every=2, name="counted"))
    fit(made, [lambda epoch, metrics: epochs.update({epoch: dict(metrics)})])
    assert "counted" not in epochs[1] and epochs[2]["counted"] == 1.0


def test_what_it_logs_goes_with_the_epoch_and_nothing_else_changes(plan):
    records: list[dict[str, float]] = []
    process.seed(0)
    fit(plan(*callback("Told", every=1)), [lambda epoch, metrics: records.append(dict(metrics))])
    without: list[dict[str, float]] = []
    process.seed(0)
    fit(plan(), [lambda epoch, metrics: without.append(dict(metrics))])
    timing = {"epoch_seconds", "train/samples_per_second"}
    assert [{name: value for name, value in record.items() if name not in {"told", *timing}} for record in records] == [
        {name: value for name, value in record.items() if name not in timing} for record in without
    ]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (callback("Told"), "callbacks.mine: Told.__init__() missing 1 required positional argument: 'every'"),
        (callback("Told", every=1, evry=2), "callbacks.mine: Told.__init__() got an unexpected keyword argument"),
        (callback("NoCallback"), "'watching_code.NoCallback' returns NoCallback; it takes a Lightning Callback"),
        (callback("exits"), "callbacks.mine: it calls sys.exit(3)"),
        (callback("Kept"), "callbacks.mine: its state_dict cannot be kept in a checkpoint"),
        (callback("Tolled"), "Tolled"),
        (["+callbacks.mine._target_=nowhere.Told"], "No module named 'nowhere'"),
        (["+loggers.mine._target_=watching_code.NoCallback"], "returns NoCallback; it takes a Lightning Logger"),
        (["+loggers.csv._target_=pytorch_lightning.loggers.CSVLogger"], "missing 1 required positional argument"),
    ],
)
def test_what_cannot_be_made_is_one_line_before_training(plan, overrides, words):
    (line,) = refusal(plan, *overrides)
    assert words in line


def watcher(monitor: str, kind: str = "EarlyStopping") -> list[str]:
    target = f"pytorch_lightning.callbacks.{kind}"
    return [f"+callbacks.own.{key}={value}" for key, value in {"_target_": target, "monitor": monitor}.items()]


@pytest.mark.parametrize("kind", ["EarlyStopping", "ModelCheckpoint"])
def test_one_that_watches_what_nothing_logs_is_one_line_before_training(plan, kind):
    (line,) = refusal(plan, *watcher("val/los", kind))
    assert line.startswith("callbacks.own.monitor='val/los' is unknown; allowed: train/loss, ")
    assert line.endswith("did you mean 'val/loss'?")
    (line,) = refusal(plan, *watcher("val/kappa", kind))
    assert line == "callbacks.own.monitor='val/kappa' is not measured; add metrics=[kappa]"


def test_one_may_watch_what_is_logged_or_what_another_of_the_users_own_may_log(plan):
    for monitor in ("val/acc", "learning_rate"):
        plan(*watcher(monitor))
    plan(*watcher("val/kappa"), "metrics=[kappa]")
    plan(*watcher("val/f1"))
    plan(*watcher("null", "ModelCheckpoint"))
    plan(*watcher("told"), *callback("Told", every=1))
    (line,) = refusal(plan, *watcher("told"), *callback("Told"))
    assert "missing 1 required positional argument: 'every'" in line


def test_all_that_cannot_be_made_is_told_together(plan):
    two = [*callback("Told"), *callback("NoCallback", key="other")]
    told = refusal(plan, *two, "+loggers.x._target_=nowhere.X", "batch_size=5000")
    starts = ("callbacks.mine: ", "callbacks.other._target_=", "loggers.x: ", "batch_size=5000")
    assert [line for line, start in zip(told, starts, strict=True) if not line.startswith(start)] == []


@pytest.mark.parametrize("key", ["+callbacks.erly_stopping.patience=3", "+loggers.csv.save_dir=logs", "+callbacks.x=3"])
def test_a_key_without_a_target_is_no_setting(plan, key):
    (line,) = refusal(plan, key)
    assert f"{key[1:].rsplit('.', 1)[0] if key.count('.') > 1 else 'callbacks.x'} is no setting" in line
    assert ("did you mean 'callbacks.early_stopping" in line) == ("erly" in key)


def test_a_logger_beside_the_run_gets_each_epoch_once_with_its_number_and_the_settings(plan, tmp_path):
    logger = {"_target_": "pytorch_lightning.loggers.CSVLogger", "save_dir": "logs", "name": "mine"}
    made = plan(*(f"+loggers.csv.{key}={value}" for key, value in logger.items()))
    told = []
    fit(made, [lambda epoch, metrics: told.append(dict(metrics))])
    tested, _ = best_tested(made)
    folder = tmp_path / "logs" / "mine" / "version_0"
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert [(row["step"], row["epoch"]) for row in rows] == [("1", "1.0"), ("2", "2.0"), ("2", "2.0")]
    for row, metrics in zip(rows, told, strict=False):
        assert float(row["val/loss"]) == pytest.approx(metrics["val/loss"])
        assert float(row["train/loss"]) == pytest.approx(metrics["train/loss"])
    assert float(rows[2]["test/acc"]) == pytest.approx(tested["test/acc"]) and not rows[2]["val/loss"]
    assert "optimizer.lr: 0.001" in (folder / "hparams.yaml").read_text()


def test_a_checkpoint_callback_of_ones_own_writes_into_the_runs_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = ["+callbacks.mine._target_=pytorch_lightning.callbacks.ModelCheckpoint", "+callbacks.mine.save_last=true"]
    quick = ("model=dnn", "trainer.max_epochs=1", f"tracking.uri=sqlite:///{tmp_path}/mlflow.db")
    fit(make_plan(settings(*quick, *own), tmp_path / "run"), [])
    assert (tmp_path / "run" / "cnnlab" / "checkpoints" / "last.ckpt").is_file()
