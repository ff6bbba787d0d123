"""What commands read of a store: damaged, it is told in one line, and no copy of it stays behind."""

from __future__ import annotations

import subprocess
import sys
import tempfile

import pytest
import torch

from cnnlab.checkpoint import load_saved
from cnnlab.errors import UsageError
from cnnlab.tracking.find import artifact_file, download_checkpoint, find_run, kept_settings, open_client
from cnnlab.tracking.store import prepare
from commands import environment


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of one store: MLflow takes seconds to make it."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def store(folder, tmp_path):
    """The store with a new run that keeps a file as its checkpoint; its address, a client and the run."""
    uri = f"sqlite:///{folder}/mlruns/mlflow.db"
    experiment = prepare(uri, "x y")
    client = open_client(uri)
    run = client.create_run(experiment)
    (tmp_path / "epoch_01.ckpt").write_text("no checkpoint")
    client.log_artifact(run.info.run_id, str(tmp_path / "epoch_01.ckpt"), "checkpoints")
    return uri, client, client.get_run(run.info.run_id)


@pytest.mark.parametrize("size", [5000, 60000])
def test_a_damaged_store_is_one_line(store, folder, tmp_path, size):
    whole = folder / "mlruns" / "mlflow.db"
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(whole.read_bytes()[:size])
    uri = f"sqlite:///{damaged}"
    with pytest.raises(UsageError) as raised:
        find_run(open_client(uri), "best")
    (line,) = raised.value.problems
    assert "\n" not in line and ("malformed" in line or "disk image" in line), line


def test_what_lies_on_this_machine_is_not_copied(store, folder, tmp_path, monkeypatch):
    _, client, run = store
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    file = download_checkpoint(client, run)
    assert file.read_text() == "no checkpoint" and folder / "mlruns" in file.parents
    client.log_text(run.info.run_id, "seed: 1\n", "config.yaml")
    assert kept_settings(client, run) == {"seed": 1}
    assert not list((tmp_path / "temporary").iterdir())


def test_a_copy_of_what_lies_elsewhere_ends_with_the_process(store, tmp_path):
    uri, _, run = store
    script = (
        "import sys\n"
        "from cnnlab.tracking import find\n"
        "find.artifact_folder = lambda run: None\n"
        "client = find.open_client(sys.argv[1])\n"
        "print(find.artifact_file(client, client.get_run(sys.argv[2]), 'checkpoints/epoch_01.ckpt').read_text())\n"
    )
    (tmp_path / "temporary").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", script, uri, run.info.run_id],
        env=environment(TMPDIR=str(tmp_path / "temporary")),
        capture_output=True,
        text=True,
    )
    assert done.stdout == "no checkpoint\n", done.stderr
    assert not list((tmp_path / "temporary").iterdir())


def test_settings_that_are_no_text_are_one_line(store, tmp_path):
    _, client, run = store
    (tmp_path / "config.yaml").write_bytes(b"seed: \xff\xfe1\n")
    client.log_artifact(run.info.run_id, str(tmp_path / "config.yaml"))
    with pytest.raises(UsageError) as raised:
        kept_settings(client, run)
    (line,) = raised.value.problems
    assert line.startswith(f"run={run.info.run_id}: its config.yaml cannot be read: 'utf-8' codec")


def test_what_is_wrong_with_a_runs_checkpoint_names_the_run(store):
    _, client, run = store
    file = artifact_file(client, run, "checkpoints/epoch_01.ckpt")
    with pytest.raises(UsageError) as raised:
        load_saved(file, run_id=run.info.run_id)
    assert raised.value.problems == [f"run={run.info.run_id}: its checkpoint cannot be read: it is no file of torch's"]


class Foreign:
    """What a stranger's file may hold beside tensors."""


def test_a_file_with_more_than_tensors_is_told_without_advice_to_execute_it(tmp_path):
    torch.save({"state_dict": {}, "extra": Foreign()}, tmp_path / "foreign.ckpt")
    with pytest.raises(UsageError) as raised:
        load_saved(tmp_path / "foreign.ckpt")
    assert raised.value.problems == [
        f"checkpoint={tmp_path}/foreign.ckpt cannot be read: it holds more than tensors and plain values; nothing in "
        "it was executed"
    ]
