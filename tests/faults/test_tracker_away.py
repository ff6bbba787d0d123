"""The tracking server is away, in every way that servers and networks fail: a real server behind a proxy that does it.

The run neither stops nor waits; what it had to tell arrives once, in order, when the server is back or by a command.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Dataset, DatasetInput, InputTag

from cnnlab import process
from cnnlab.errors import UsageError, hidden
from cnnlab.settings.commands import Tracking
from cnnlab.signals import Interruption, interruptible
from cnnlab.tracking import courier
from cnnlab.tracking.journal import UNDELIVERED, journals
from cnnlab.tracking.recording import open_recording
from cnnlab.tracking.run import TrackedRun, create_run, end_for_another, open_run
from cnnlab.tracking.store import check_address
from cnnlab.tracking.sync import sync
from tracking_server import Proxy, contents

PATIENCE = 60.0  # seconds


@pytest.fixture
def proxy(server, tmp_path, monkeypatch):
    """A proxy before the server; the test runs in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    for name, value in process.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(courier, "SILENCE", PATIENCE)
    monkeypatch.setattr(courier, "LONGEST", PATIENCE)
    monkeypatch.setattr(courier, "FIRST_PAUSE", 0.05)
    standing = Proxy(server.port)
    yield standing
    standing.mode = "open"
    standing.close()


def cut(proxy: Proxy, mode: str = "closed") -> None:
    """Let the server be away, which nobody has to wait for."""
    proxy.mode, courier.SILENCE = mode, 0.5


def mend(proxy: Proxy) -> None:
    """Let the server be there again, however slow this machine is."""
    proxy.mode, courier.SILENCE = "open", PATIENCE


def settings(proxy: Proxy, **changes: object) -> Tracking:
    known = dict(uri=proxy.uri, experiment_name="away", run_name="one", offline=False, log_model=False, register=False)
    return Tracking(**known | dict(system_metrics=False, system_metrics_interval=5) | changes)


def tell(run, epochs=range(1, 6)) -> None:
    """Say a little of everything that a training says."""
    run.log_parameters({"lr": 0.1, **{f"key.{number}": number for number in range(120)}})
    run.set_tags({"colour": "blue"})
    data = Dataset("digits", "abc", "local", "{}")
    run.client.log_inputs(run.run_id, [DatasetInput(data, [InputTag("mlflow.data.context", "training")])])
    for epoch in epochs:
        run.log_metrics(epoch, {"train/loss": epoch / 8, "val/acc": epoch / 10, "odd": math.nan})
    run.log_text("lr: 0.1", "config.yaml")
    Path("pictures/deep").mkdir(parents=True, exist_ok=True)
    Path("pictures/a.txt").write_text("a")
    Path("pictures/deep/b.txt").write_text("b")
    run.log_folder(Path("pictures"), "figures")


def check(found: dict[str, object], status: str = "FINISHED", epochs=range(1, 6)) -> None:
    """Whether all that `tell` has said is there, each once."""
    history = found["history"]
    assert found["status"] == status
    assert [entry[:2] for entry in history["train/loss"]] == [(epoch, repr(epoch / 8)) for epoch in epochs]
    assert [entry[:2] for entry in history["odd"]] == [(epoch, "nan") for epoch in epochs]
    assert len(found["parameters"]) == 121
    assert found["tags"]["colour"] == "blue"
    assert found["data"] == ["abc"]
    assert [*found["files"]][:3] == ["config.yaml", "figures/a.txt", "figures/deep/b.txt"]


def test_a_run_whose_server_answers_is_there_when_it_ends(proxy, tmp_path):
    with open_run(settings(proxy), {"colour": "red"}) as run:
        assert sync() == 1  # a run that is being written is left alone
        tell(run)
    check(contents(proxy.uri, run.run_id))
    assert run.waits is None
    assert not UNDELIVERED.exists()


@pytest.mark.parametrize("every", [2, 3])
def test_what_was_taken_and_never_acknowledged_is_not_doubled(proxy, every):
    asked = []

    def deaf_now_and_then(request: bytes) -> None:
        if request.startswith(b"GET"):
            proxy.mode = "open"
            return
        asked.append(request)
        proxy.mode = "deaf" if len(asked) % every == 0 else "open"

    with open_run(settings(proxy), {}) as run:
        proxy.on_request = deaf_now_and_then
        tell(run)
        while journals()[0].waiting():
            time.sleep(0.02)
        proxy.on_request, proxy.mode = None, "open"
    assert proxy.dropped > 2
    check(contents(proxy.uri, run.run_id))


@pytest.mark.parametrize("mode", ["closed", "error", "silent"])
def test_a_server_that_goes_away_stops_nothing_and_gets_everything_later(proxy, mode, capsys):
    with open_run(settings(proxy), {}) as run:
        cut(proxy, mode)
        tell(run)
    folder = journals()[0].folder.relative_to(Path.cwd())
    assert f"run {run.run_id}: " in run.waits
    assert f"deliveries wait in {folder}, as {proxy.uri} is away (" in run.waits
    assert run.waits.endswith("; deliver them: python -m cnnlab.tracking.sync")
    courier_of(run).join(0.1)
    release(run)
    assert sync() == 1
    assert "deliveries wait in" in capsys.readouterr().out
    mend(proxy)
    assert sync() == 0
    assert sync() == 0
    check(contents(proxy.uri, run.run_id))
    assert "nothing waits" in capsys.readouterr().out
    assert not UNDELIVERED.exists()


def courier_of(run) -> threading.Thread:
    return run.recording.courier.thread


def release(run) -> None:
    """Be as if the process of a run had ended: its thread delivers no more, and its folder is free."""
    delivery = run.recording.courier.delivery
    delivery.step = lambda: (_ for _ in ()).throw(OSError("its process has ended"))
    time.sleep(1.2)  # what it sends just now has its answer, or none for ever
    run.recording.journal.release()


def test_an_interrupted_run_ends_as_killed_whenever_the_server_hears_of_it(proxy):
    with pytest.raises(Interruption) as stopped, interruptible(), open_run(settings(proxy), {}) as run:
        cut(proxy, "silent")
        tell(run)
        signal.raise_signal(signal.SIGINT)
    (note,) = stopped.value.__notes__
    assert note == run.waits
    mend(proxy)
    courier_of(run).join(20)  # the process lives on, and so does the delivery
    found = contents(proxy.uri, run.run_id)
    check(found, "KILLED")
    assert found["tags"]["interruption"] == "SIGINT"


def test_a_failed_run_says_on_stderr_what_waits(proxy, capsys):
    with pytest.raises(ZeroDivisionError), open_run(settings(proxy), {}) as run:
        cut(proxy)
        1 / 0  # noqa: B018
    assert run.waits in capsys.readouterr().err
    mend(proxy)
    courier_of(run).join(20)
    assert contents(proxy.uri, run.run_id)["status"] == "FAILED"


def test_offline_asks_no_server_and_is_delivered_once(proxy, capsys, monkeypatch):
    asked: list[bytes] = []
    proxy.on_request, proxy.mode = asked.append, "closed"
    with open_run(settings(proxy, offline=True), {"colour": "red"}) as run:
        tell(run)
    assert asked == []
    assert sync() == 1
    mend(proxy)
    proxy.on_request = lambda request: setattr(proxy, "mode", "deaf" if b"runs/create" in request[:100] else "open")
    assert sync() == 0
    assert proxy.dropped == 1  # the server had made the run, and nobody was told its id
    proxy.on_request, proxy.mode = None, "open"
    said = capsys.readouterr().out.splitlines()[-1]
    run_id = said.partition("is run ")[2][:32]
    assert said.startswith(f"{run.run_id}: is run {run_id}, ")
    check(contents(proxy.uri, run_id))
    client = mlflow.MlflowClient(proxy.uri)
    experiment = client.get_experiment_by_name("away").experiment_id
    assert len(client.search_runs([experiment], f"tags.recorded = '{run.run_id}'")) == 1


def test_a_run_goes_on_after_what_it_left_behind(proxy):
    with open_run(settings(proxy), {}) as first:
        cut(proxy)
        tell(first, range(1, 4))
    release(first)
    mend(proxy)
    with open_run(settings(proxy), {"colour": "blue"}, first.run_id) as again:
        assert again.run_id == first.run_id
        assert [entry.step for entry in again.client.get_metric_history(again.run_id, "train/loss")] == [1, 2, 3]
        for epoch in (4, 5):
            again.log_metrics(epoch, {"train/loss": epoch / 8, "val/acc": epoch / 10, "odd": math.nan})
    check(contents(proxy.uri, first.run_id))
    with open_run(settings(proxy), {}, first.run_id) as third:  # nothing waits: the server says what it holds
        steps = [entry.step for entry in third.client.get_metric_history(third.run_id, "train/loss")]
        assert steps == [1, 2, 3, 4, 5]
        assert third.experiment_id == again.experiment_id


def test_a_run_that_the_server_has_not_is_refused(proxy):
    with pytest.raises(UsageError, match="does not hold the MLflow run 0123"), open_run(settings(proxy), {}, "0123"):
        pass
    assert not UNDELIVERED.exists()


def test_a_run_whose_process_is_gone_is_ended_by_sync(proxy):
    recording = open_recording(settings(proxy), {}, None)
    run = TrackedRun(recording.run_id, recording.experiment_id, recording.client, recording=recording)
    cut(proxy)
    tell(run)
    release(run)
    mend(proxy)
    assert sync() == 0
    found = contents(proxy.uri, run.run_id)
    check(found, "KILLED")
    assert found["tags"]["interruption"] == "its process is gone"


def test_another_process_ends_a_run_whose_own_is_gone_and_going_on_takes_that_back(proxy):
    recording = open_recording(settings(proxy), {}, None)
    run = TrackedRun(recording.run_id, recording.experiment_id, recording.client, recording=recording)
    cut(proxy)
    tell(run)
    release(run)
    end_for_another(settings(proxy), run.run_id, "the first process is gone")
    mend(proxy)
    while UNDELIVERED.exists():
        time.sleep(0.02)
    found = contents(proxy.uri, run.run_id)
    check(found, "FAILED")
    assert found["tags"]["error"] == "the first process is gone"
    with open_run(settings(proxy), {}, run.run_id):
        pass
    found = contents(proxy.uri, run.run_id)
    check(found)
    assert "error" not in found["tags"]


def test_a_run_deleted_on_the_server_stays_on_disk_and_is_said(proxy, capsys):
    with open_run(settings(proxy), {}) as run:
        cut(proxy)
        tell(run)
    release(run)
    mend(proxy)
    client = mlflow.MlflowClient(proxy.uri)
    client.delete_run(run.run_id)
    assert sync() == 1
    assert "must be in the 'active' state" in capsys.readouterr().out
    client.restore_run(run.run_id)
    assert sync() == 0
    check(contents(proxy.uri, run.run_id))


def test_a_parent_is_created_before_it_is_opened(proxy):
    run_id = create_run(settings(proxy), {"colour": "blue"})
    with open_run(settings(proxy), {}, run_id) as run:
        tell(run)
    check(contents(proxy.uri, run_id))


def test_a_password_stays_in_the_address(proxy, tmp_path, capfd):
    secret = proxy.uri.replace("http://", "http://alice:SECRET@")
    with (
        pytest.raises(RuntimeError),
        open_run(settings(proxy, uri=secret), {"command": f"x tracking.uri={secret}"}) as run,
    ):
        run.log_parameters({"tracking.uri": secret})
        run.log_text(secret, "config.yaml")
        cut(proxy)
        raise RuntimeError(secret)
    assert "alice:***@" in run.waits
    release(run)
    assert not [file for file in UNDELIVERED.rglob("*") if file.is_file() and b"SECRET" in file.read_bytes()]
    assert sync() == 1  # nobody has the password
    mend(proxy)
    assert sync(uri=secret) == 0
    assert "SECRET" not in repr(contents(proxy.uri, run.run_id))
    assert "SECRET" not in "".join(capfd.readouterr())
    (line,) = check_address(secret.replace("SECRET", "***"))
    assert "set MLFLOW_TRACKING_URI to the whole address" in line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://alice:SECRET@h/p", "http://alice:***@h/p"),
        ("a postgresql+psycopg://u:S@CRET@h:1/d b", "a postgresql+psycopg://u:***@h:1/d b"),
        ("https://SECRET@github.com/x.git", "https://***@github.com/x.git"),
        ("ssh://git@github.com/x.git", "ssh://git@github.com/x.git"),
        ("sqlite:///a@b/c", "sqlite:///a@b/c"),
    ],
)
def test_a_password_is_hidden_in_any_text(text, shown):
    assert hidden(text) == shown
