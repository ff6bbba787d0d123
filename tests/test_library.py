"""What the commands do, called from a program and from a notebook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import mlflow
import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from nbclient import NotebookClient
from PIL import Image

import cnnlab
from cnnlab.errors import Incomplete, UsageError
from commands import ROOT, environment, loaded

SMALL = ("model=dnn", "trainer.max_epochs=2", "figures.enabled=false", "tracking.system_metrics=false")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return an empty current folder, of a user who has named no store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def test_a_training_returns_run_metrics_history_and_model(folder):
    result = cnnlab.train(*SMALL)
    run = mlflow.MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db").get_run(result.run_id)
    assert run.info.status == "FINISHED"
    for name in ("test/acc", "best/val/loss"):  # the store keeps the seven digits that float32 has
        assert result.metrics[name] == pytest.approx(run.data.metrics[name], rel=1e-6)
    assert list(result.history.index) == [1, 2]
    assert result.history["val/loss"].min() == result.metrics["best/val/loss"]
    data = loaded("digits")
    right = (result.model(data.test_images).argmax(dim=1) == data.test_labels).float().mean()
    assert float(right) == pytest.approx(result.metrics["test/acc"])
    assert run.data.tags["command"].endswith(
        "model=dnn trainer.max_epochs=2 figures.enabled=false tracking.system_metrics=false"
    )


@pytest.mark.slow
def test_several_calls_in_one_process_do_not_disturb_each_other(folder):
    first, second = cnnlab.train(*SMALL), cnnlab.train(*SMALL)
    assert first.run_id != second.run_id and "MLFLOW_TRACKING_URI" not in os.environ
    assert first.metrics == second.metrics
    assert cnnlab.evaluate(f"run={first.run_id}", "split=val", "figures.enabled=false")["val/acc"] == pytest.approx(
        first.metrics["best/val/acc"]
    )
    loaded_again = cnnlab.load("best")
    images = loaded("digits").test_images[:5]
    assert torch.equal(loaded_again(images), cnnlab.load(checkpoint=first.model.checkpoint)(images.numpy()))
    assert loaded_again.classify(images[0]) == loaded_again.classify(images)[:1]


def test_predictions_are_a_table(folder, trained):
    (folder / "images").mkdir()
    names = [f"숫자 {number}.png" for number in range(3)]
    for name, image in zip(names, loaded("digits").test_images, strict=False):
        Image.fromarray(image[0].numpy()).save(folder / "images" / name)
    store = f"tracking.uri={trained.uri}"
    table = cnnlab.predict("run=best", "image=images", store)
    assert isinstance(table, pd.DataFrame) and len(table) == 3
    assert list(table.columns[:2]) == ["class", "probability"]
    assert table[list("0123456789")].sum(axis=1).tolist() == pytest.approx([1.0] * 3)
    assert {Path(path).name for path in table.index} == set(names)
    (folder / "images" / "broken.png").write_text("no image")
    with pytest.raises(Incomplete):
        cnnlab.predict("run=best", "image=images", store)


@pytest.mark.slow
def test_a_sweep_returns_its_trials(folder):
    found = cnnlab.sweep(
        *SMALL, "search=mlp", "sweep.n_trials=2", "sweep.final_seeds=1", "pruner=none", "tracking.log_model=false"
    )
    assert len(found.trials) == 2 and set(found.trials["state"]) == {"complete"}
    assert found.best_values["val/acc"] == found.trials["val/acc"].max()
    assert "optimizer.lr" in found.best_parameters
    assert 0 < found.tested["test/acc"][0] < 1
    assert found.study.study_name == "digits-dnn-mlp"


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: cnnlab.train("modle=mlp"), "modle is no setting; did you mean 'model'?"),
        (lambda: cnnlab.train("model=mpl"), "did you mean 'mlp'?"),
        (lambda: cnnlab.train("optimizer.lr=-1"), "optimizer.lr takes a number above 0"),
        (lambda: cnnlab.train("model=mlp", config_dir="nowhere"), "nowhere' is not a folder"),
        (lambda: cnnlab.load("no_such_run"), "holds no runs yet"),
        (lambda: cnnlab.train(["model=mlp"]), "['model=mlp'] is no setting; give texts, such as 'model=mlp'"),
        (lambda: cnnlab.load(), "give either run=RUN_ID"),
    ],
)
def test_a_mistake_is_a_usage_error_with_the_commands_line(folder, call, line):
    with pytest.raises(UsageError) as raised:
        call()
    assert any(line in problem for problem in raised.value.problems)


def test_images_of_another_shape_are_refused(trained):
    model = cnnlab.load("best", f"tracking.uri={trained.uri}")
    with pytest.raises(UsageError, match=r"\[N, 1, 28, 28\]"):
        model(np.zeros((2, 28, 28), dtype=np.uint8))


def test_pixels_that_were_scaled_already_are_told(trained):
    model = cnnlab.load("best", f"tracking.uri={trained.uri}")
    images = loaded("digits").test_images[:5]
    with pytest.warns(UserWarning, match="at most 1"):
        model(images / 255)


@pytest.mark.slow
def test_trainings_of_several_threads_come_one_after_the_other(folder):
    results = {}
    threads = [
        threading.Thread(target=lambda seed=seed: results.update({seed: cnnlab.train(*SMALL, f"seed={seed}")}))
        for seed in (1, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[1].metrics == cnnlab.train(*SMALL, "seed=1").metrics


def test_a_notebooks_own_run_and_store_are_left_alone(folder):
    mlflow.set_tracking_uri("sqlite:///own.db")
    with mlflow.start_run() as own:
        result = cnnlab.train(*SMALL)
        assert mlflow.active_run().info.run_id == own.info.run_id != result.run_id
    assert mlflow.get_tracking_uri() == "sqlite:///own.db"


@pytest.mark.cold
def test_importing_the_library_is_quick_until_it_is_used():
    script = "import sys, cnnlab; print([name for name in ('torch', 'mlflow', 'hydra') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT / "src", capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.cold
@pytest.mark.slow
def test_a_real_notebook_trains_twice_and_shows_plain_lines(tmp_path):
    cells = [
        "from cnnlab import train, load",
        f"result = train{SMALL!r}",
        f"again = train{(*SMALL, 'seed=1')!r}",
        "result.history[['val/loss']].shape, result.run_id != again.run_id, load(result.run_id)",
        "train('modle=mlp')",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(notebook, timeout=300, allow_errors=True, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env=environment(PYTHONPATH=str(ROOT / "src")))
    outputs = [cell.outputs for cell in notebook.cells]
    said = "".join(output.text for output in outputs[1] if output.output_type == "stream")
    assert "epoch 2/2" in said and "\x1b" not in said, json.dumps(outputs[1])
    assert {output.output_type for output in outputs[1]} == {"stream"}
    (answer,) = outputs[3]
    assert " ".join(answer.data["text/plain"].split()).startswith("((2, 1), True, <cnnlab model of run ")
    assert outputs[4][-1].ename == "UsageError" and "did you mean 'model'?" in outputs[4][-1].evalue
