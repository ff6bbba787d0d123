"""The ledger of the test splits: what is counted, of which images, and what it is worth."""

from __future__ import annotations

import math
import shutil

import mlflow
import pytest
from mlflow.entities import Dataset, DatasetInput

from cnnlab.report.__main__ import main
from cnnlab.report.ledger import Account, accounts
from cnnlab.report.read import read_store
from cnnlab.tracking.ledger import Reading, record
from cnnlab.tracking.store import prepare
from commands import loaded, run
from tracking_server import Server


@pytest.fixture(scope="module")
def client(tmp_path_factory) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{tmp_path_factory.mktemp('ledger')}/mlflow.db")


def add(client: mlflow.MlflowClient, experiment: str, dataset: str, settings: str) -> str:
    tags = {"dataset": dataset, "model": "dnn", "settings": settings}
    run_id = client.create_run(prepare(client.tracking_uri, experiment), tags=tags).info.run_id
    data = Dataset("mnist", "d1", "local", "", profile='{"test": 10000}')
    client.log_inputs(run_id, [DatasetInput(data)])
    client.set_terminated(run_id)
    return run_id


def reading(door="train", settings="s1", test="t1", data="d1", images=10_000, dataset="mnist") -> Reading:
    return Reading(door, dataset, data, test, images, settings)


class TestStore:
    def test_every_reading_counts_also_of_what_was_deleted(self, client, tmp_path, monkeypatch, capsys):
        uri = client.tracking_uri
        first = add(client, "mnist", "mnist", "s1")
        for door in ("train", "evaluate", "evaluate"):
            record(uri, first, reading(door, settings=""))  # a checkpoint of before did not say its settings
        thrown_away = add(client, "mnist", "mnist", "s2")
        record(uri, thrown_away, reading(settings="s2"))
        client.delete_run(thrown_away)
        record(uri, add(client, "given up", "mnist", "s3"), reading(settings="s3"))
        client.delete_experiment(client.get_experiment_by_name("given up").experiment_id)
        older = add(client, "mnist", "mnist", "s4")
        client.log_metric(older, "test/acc", 0.9)
        trained_before = add(client, "mnist", "mnist", "s5")
        client.log_metric(trained_before, "test/acc", 0.9)
        record(uri, trained_before, reading("evaluate", settings="s5"))
        damaged = add(client, "mnist", "mnist", "s6")
        client.set_tag(damaged, "test.read.20260101T000000.000000", "{")

        found = read_store(uri)
        assert sorted(item.settings for item in found.readings) == ["s1"] * 3 + ["s2", "s3", "s4", "s5", "s5", "s6"]
        assert {item.run_id for item in found.runs} == {first, older, trained_before, damaged}, (
            "no deleted one has a row"
        )
        monkeypatch.chdir(tmp_path)
        assert main(["--uri", uri]) == 0
        printed = capsys.readouterr().out
        line = "- mnist test split: read 9 times by 6 settings; choosing by it can have gained 0.0095 by chance"
        assert line in printed and "Boucheron" in printed
        assert main(["--uri", uri, "--format", "table", "--dataset", "mnist"]) == 0
        assert line.removeprefix("- ") in capsys.readouterr().out

    def test_a_file_tested_where_there_is_a_store_has_a_run_that_is_no_result(self, client):
        before = len(read_store(client.tracking_uri).runs)
        said = record(client.tracking_uri, None, reading("evaluate", dataset="digits", settings="s9"))
        found = read_store(client.tracking_uri)
        (counted,) = (item for item in found.readings if item.dataset == "digits")
        assert (counted.settings, len(found.runs)) == ("s9", before)
        assert said.endswith("keeps that the test split was read")

    def test_a_file_tested_without_a_store_is_said_not_to_count(self, tmp_path):
        said = record(f"sqlite:///{tmp_path}/mlflow.db", None, reading())
        assert "nobody counts this reading" in said and not list(tmp_path.iterdir())


class TestAccount:
    @pytest.mark.parametrize(
        ("settings", "images", "words"),
        [
            (
                12,
                10_000,
                "mnist test split: read 37 times by 12 settings; choosing by it can have gained 0.0111 by chance",
            ),
            (1, 10_000, "mnist test split: read 37 times by 1 setting; nothing was chosen by it"),
            (2, 0, "mnist test split: read 37 times by 2 settings; of how many images is not known"),
        ],
    )
    def test_is_a_sentence(self, settings, images, words):
        assert str(Account("mnist", 37, settings, images)) == words

    def test_the_gain_is_the_bound_of_the_maximum_of_means(self):
        assert Account("digits", 8, 8, 360).gain == pytest.approx(math.sqrt(math.log(8) / 720))

    def test_versions_of_a_dataset_are_told_apart_and_old_runs_join_the_version_they_read(self):
        old = Reading("train", "birds", "d1", "", 50, "s0")
        found = accounts(
            [old, *(reading(test=test, data=data, dataset="birds") for test, data in (("t1", "d1"), ("t2", "d2")))]
        )
        assert [(item.name, item.readings) for item in found] == [("birds (t1)", 2), ("birds (t2)", 1)]
        more_to_train = [reading(test="t1", data=data, dataset="birds") for data in ("d1", "d3")]
        assert [item.readings for item in accounts(more_to_train)] == [2]

    def test_one_dataset_of_several(self):
        assert [item.name for item in accounts([reading(), reading(dataset="digits")], "digits")] == ["digits"]


CRASH = """
import pytorch_lightning as pl

class Crash(pl.Callback):
    def on_test_start(self, trainer, module):
        raise RuntimeError("the power failed")
"""


def test_a_reading_is_kept_before_it_takes_place(tmp_path):
    (tmp_path / "conf").mkdir()
    (tmp_path / "crash.py").write_text(CRASH)
    small = ("model=dnn", "trainer.max_epochs=1", "tracking.log_model=false", "figures.enabled=false")
    done = run(tmp_path, "train.py", *small, "+callbacks.crash._target_=crash.Crash", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1 and "the power failed" in done.stderr
    (counted,) = read_store(f"sqlite:///{tmp_path}/mlruns/mlflow.db").readings
    data = loaded("digits")
    assert counted.door == "train" and counted.images == 360
    assert (counted.data, counted.test) == (data.digest, data.test_digest)


def test_training_and_evaluation_by_run_and_by_file_are_readings_of_the_same_settings(trained, tmp_path):
    here = tmp_path / "copy"
    shutil.copytree(trained.folder, here)
    (file,) = here.glob("outputs/*/*/checkpoints/epoch_*.ckpt")
    for named in (f"run={trained.run.info.run_id}", f"checkpoint='{file}'"):
        done = run(here, "evaluate.py", named, "figures.enabled=false")
        assert done.returncode == 0, done.stderr
    found = read_store(f"sqlite:///{here}/mlruns/mlflow.db").readings
    assert sorted(item.door for item in found)[-1] == "train" and len(found) >= 3
    (only,) = {(item.test, item.settings, item.images) for item in found}
    assert only == (loaded("digits").test_digest, trained.run.data.tags["settings"], 360)


@pytest.mark.slow
def test_readings_land_on_a_server_and_are_counted_from_there(tmp_path):
    server = Server(tmp_path)
    server.start()
    try:
        here = tmp_path / "here"
        here.mkdir()
        given = ["model=dnn", "trainer.max_epochs=1", "figures.enabled=false", "tracking.log_model=false"]
        for door, overrides in (("train.py", given), ("evaluate.py", ["run=last", "figures.enabled=false"])):
            done = run(here, door, *overrides, MLFLOW_TRACKING_URI=server.uri)
            assert done.returncode == 0, done.stderr
        found = read_store(server.uri)
        assert [item.door for item in found.readings] == ["train", "evaluate"]
        (account,) = accounts(found.readings)
        assert account.readings == 2
    finally:
        server.kill()
