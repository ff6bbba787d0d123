"""Runs that name their dataset."""

from __future__ import annotations

import threading

import mlflow
import pytest
from mlflow.entities import Dataset, DatasetInput
from mlflow.exceptions import MlflowException

from cnnlab.tracking.inputs import log_dataset
from cnnlab.tracking.store import prepare, uri_of

ROUNDS, RUNS = 10, 4


def named(digest: str) -> DatasetInput:
    return DatasetInput(Dataset("digits", digest, "code", "here"), [])


def test_runs_that_begin_at_once_all_name_the_same_dataset(tmp_path):
    uri = uri_of(tmp_path / "mlflow.db")
    experiment = prepare(uri, "digits")
    client = mlflow.MlflowClient(uri)
    runs = [client.create_run(experiment).info.run_id for _ in range(RUNS)]
    together, failures = threading.Barrier(RUNS), []

    def begin(run_id: str) -> None:
        for number in range(ROUNDS):
            together.wait()
            try:
                log_dataset(mlflow.MlflowClient(uri), run_id, named(f"{number}"))
            except MlflowException as error:
                failures.append(error)

    threads = [threading.Thread(target=begin, args=(run_id,)) for run_id in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    for run_id in runs:
        found = client.get_run(run_id).inputs.dataset_inputs
        assert sorted(item.dataset.digest for item in found) == sorted(map(str, range(ROUNDS)))


def test_any_other_refusal_is_told_at_once(tmp_path):
    uri = uri_of(tmp_path / "mlflow.db")
    prepare(uri, "digits")
    with pytest.raises(MlflowException, match="not found"):
        log_dataset(mlflow.MlflowClient(uri), "0" * 32, named("a"))
