"""A run ends as what it was."""

from __future__ import annotations

import os
import signal

import mlflow.store.db.utils
import pytest

from cnnlab.errors import UsageError
from cnnlab.settings.commands import Tracking
from cnnlab.signals import Interruption, interruptible
from cnnlab.tracking import database
from cnnlab.tracking.run import create_run, open_run


@pytest.fixture
def settings(tmp_path):
    return Tracking(
        uri=f"sqlite:///{tmp_path}/mlflow.db",
        experiment_name="ends",
        run_name="one",
        offline=False,
        log_model=False,
        register=False,
        system_metrics=False,
        system_metrics_interval=5,
    )


def only_run(settings):
    client = mlflow.MlflowClient(settings.uri)
    (run,) = client.search_runs([client.get_experiment_by_name("ends").experiment_id])
    return run, client


def test_finished(settings):
    with open_run(settings, {"colour": "blue"}) as run:
        run.log_metrics(3, {"val/loss": 0.5})
    found, client = only_run(settings)
    assert (found.info.status, found.info.run_name, found.data.tags["colour"]) == ("FINISHED", "one", "blue")
    (metric,) = client.get_metric_history(found.info.run_id, "val/loss")
    assert (metric.value, metric.step) == (0.5, 3)


def test_failed_with_the_error(settings):
    with pytest.raises(ZeroDivisionError), open_run(settings, {}):
        1 / 0  # noqa: B018
    found, client = only_run(settings)
    assert (found.info.status, found.data.tags["error"]) == ("FAILED", "ZeroDivisionError: division by zero")
    assert [item.path for item in client.list_artifacts(found.info.run_id)] == ["traceback.txt"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_killed_by_a_signal(settings, number):
    with pytest.raises(Interruption), interruptible(), open_run(settings, {}):
        os.kill(os.getpid(), number)
    found, _ = only_run(settings)
    assert (found.info.status, found.data.tags["interruption"]) == ("KILLED", number.name)


def test_a_second_signal_while_the_status_is_written_does_not_lose_it(settings, monkeypatch):
    end_run = mlflow.end_run

    def interrupted_again(status):
        os.kill(os.getpid(), signal.SIGINT)
        end_run(status)

    monkeypatch.setattr(mlflow, "end_run", interrupted_again)
    with pytest.raises(Interruption), interruptible(), open_run(settings, {}):
        os.kill(os.getpid(), signal.SIGTERM)
    assert only_run(settings)[0].info.status == "KILLED"


def test_many_and_long_parameters_are_kept(settings):
    parameters = {f"key.{number}": number for number in range(150)} | {"long": "x" * 5000}
    with open_run(settings, {}) as run:
        run.log_parameters(parameters)
    found, _ = only_run(settings)
    assert found.data.params == {key: str(value) for key, value in parameters.items()}


def test_a_run_opened_again_goes_on_and_ends_as_what_it_then_was(settings):
    with pytest.raises(ZeroDivisionError), open_run(settings, {"colour": "blue"}) as run:
        run.log_parameters({"lr": 0.1})
        1 / 0  # noqa: B018
    with open_run(settings, {"colour": "green"}, run.run_id) as again:
        assert only_run(settings)[0].info.status == "RUNNING"
        again.log_metrics(2, {"val/loss": 0.25})
    found, _ = only_run(settings)
    assert (found.info.run_id, found.info.status) == (run.run_id, "FINISHED")
    assert (found.data.params, found.data.tags["colour"]) == ({"lr": "0.1"}, "green")


def test_a_run_that_is_not_in_the_store_is_refused(settings):
    with pytest.raises(UsageError, match="does not hold the MLflow run 0123"), open_run(settings, {}, "0123"):
        pass


def test_a_run_created_before_it_is_opened_has_its_user(settings):
    create_run(settings, {"colour": "blue"})
    found, _ = only_run(settings)
    assert found.data.tags.keys() >= {"colour", "mlflow.user", "mlflow.source.name"}


def test_mlflow_is_asked_once_for_its_newest_schema(settings, monkeypatch):
    """Each answer leaves a third of a MiB in memory, and a worker opens hundreds of runs."""
    answer, asked = mlflow.store.db.utils._get_latest_schema_revision, []
    monkeypatch.setattr(mlflow.store.db.utils, "_get_latest_schema_revision", lambda: asked.append(1) or answer())
    database.newest_revision.cache_clear()
    counts = []
    for _ in range(3):
        with open_run(settings, {}):
            counts.append(len(asked))
    assert counts[0] == counts[2]
