"""How many CPU threads a training has: chosen, kept with the run, and no part of what the training is."""

from __future__ import annotations

import mlflow
import pytest
import torch

from cnnlab import process
from cnnlab.errors import UsageError
from commands import run, settings

QUICK = ("model=dnn", "trainer.max_epochs=1", "figures.enabled=false", "tracking.log_model=false")


@pytest.fixture
def two_threads(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    process.own_threads.cache_clear()
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # what is changed is put back
    yield
    torch.set_num_threads(before)
    process.own_threads.cache_clear()


def test_a_training_that_asks_for_none_gets_what_the_process_had(two_threads):
    assert [process.use_threads(number) for number in (1, None, 3)] == [1, 2, 3]
    assert torch.get_num_threads() == 3


def test_several_processes_share_the_cores_as_lightning_would_have_it(two_threads, monkeypatch):
    assert process.use_threads(None, processes=2) == 2, "where the shell says how many"
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(process, "available_cores", lambda: 6)
    assert process.use_threads(None, processes=2) == 3
    assert process.use_threads(4, processes=2) == torch.get_num_threads() == 4
    assert process.os.environ["OMP_NUM_THREADS"] == "4", "or Lightning would set its own"


def test_they_are_no_part_of_what_a_training_is():
    assert settings("threads=1").digest() == settings("threads=2").digest() == settings().digest()


@pytest.mark.parametrize("number", [0, 1.5, 5000])
def test_a_number_that_no_machine_has_is_refused(number):
    with pytest.raises(UsageError, match=f"threads={number}"):
        settings(f"threads={number}")


@pytest.mark.slow
def test_a_run_keeps_how_many_it_had_and_another_like_it_repeats_it_or_says_so(tmp_path):
    chosen = run(tmp_path, "train.py", *QUICK, "threads=2")
    again = run(tmp_path, "train.py", "like=last")
    usual = run(tmp_path, "train.py", *QUICK)
    other = run(tmp_path, "train.py", "like=last", OMP_NUM_THREADS="2")
    for done in (chosen, again, usual, other):
        assert done.returncode == 0, done.stderr
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list", order_by=["start_time"])
    assert [found.data.params["threads"] for found in runs][:3] == ["2", "2", "1"]
    assert [found.data.tags["device.threads"] for found in runs][:3] == ["2", "2", "1"]
    same = [found.data.metrics["train/loss"] for found in runs][:2]
    assert same[0] == same[1]
    assert "the same settings" in again.stdout and "CPU threads" not in again.stdout
    assert "had 1 CPU threads, this one has 2: threads=1 repeats it" in other.stdout
    ids = [found.info.run_id for found in runs]
    told = run(tmp_path, "diff.py", f"a={ids[0]}", f"b={ids[2]}").stdout
    assert "device.threads: 2 -> 1" in told and "settings  threads" not in told
