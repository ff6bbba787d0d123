"""What several processes tell MLflow in the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable

import mlflow
import pytest
from mlflow.entities import Dataset, DatasetInput
from mlflow.exceptions import MlflowException

from cnnlab.tracking.shared_rows import log_dataset, tag_experiment
from cnnlab.tracking.store import prepare, uri_of

ROUNDS, RUNS = 10, 4


def named(digest: str) -> DatasetInput:
    return DatasetInput(Dataset("digits", digest, "code", "here"), [])


def at_once(act: Callable[[int, int], object]) -> list[Exception]:
    """Let several threads call `act` with their number and that of the round, and return what was raised."""
    together, raised = threading.Barrier(RUNS), []

    def begin(number: int) -> None:
        for turn in range(ROUNDS):
            together.wait()
            try:
                act(number, turn)
            except MlflowException as error:
                raised.append(error)

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(RUNS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def test_runs_that_begin_at_once_all_name_the_same_dataset(tmp_path):
    uri = uri_of(tmp_path / "mlflow.db")
    experiment = prepare(uri, "digits")
    client = mlflow.MlflowClient(uri)
    runs = [client.create_run(experiment).info.run_id for _ in range(RUNS)]
    assert not at_once(lambda number, turn: log_dataset(mlflow.MlflowClient(uri), runs[number], named(f"{turn}")))
    for run_id in runs:
        found = client.get_run(run_id).inputs.dataset_inputs
        assert sorted(item.dataset.digest for item in found) == sorted(map(str, range(ROUNDS)))


def test_a_tag_that_several_give_an_experiment_at_once_is_no_error(tmp_path):
    uri = uri_of(tmp_path / "mlflow.db")
    experiment = prepare(uri, "digits")
    assert not at_once(
        lambda number, turn: tag_experiment(mlflow.MlflowClient(uri), experiment, f"{turn}", f"{number}")
    )
    tags = mlflow.MlflowClient(uri).get_experiment(experiment).tags
    assert all(tags[f"{turn}"] in map(str, range(RUNS)) for turn in range(ROUNDS))


def test_any_other_refusal_is_told_at_once(tmp_path):
    uri = uri_of(tmp_path / "mlflow.db")
    prepare(uri, "digits")
    with pytest.raises(MlflowException, match="not found"):
        log_dataset(mlflow.MlflowClient(uri), "0" * 32, named("a"))
