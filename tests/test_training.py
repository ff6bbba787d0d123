"""train.py as a user runs it: what it says, what it keeps, and how it ends."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from mlflow.exceptions import MlflowException
from omegaconf import OmegaConf

from cnnlab.checkpoint import load_saved
from commands import ROOT, command, environment, loaded, run, small_disk

FAILING = """
from pytorch_lightning import Callback


class Failing(Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        raise RuntimeError("after an epoch")
"""
QUICK = (
    *("model=dnn", "model.hidden_units=[8]", "trainer.max_epochs=1"),
    *("tracking.log_model=false", "figures.enabled=false"),
)


def metrics_of(folder: Path) -> dict[str, list[tuple[float, int]]]:
    """Return every recorded value and step of every metric of the only run in `folder`."""
    with sqlite3.connect(folder / "mlruns" / "mlflow.db") as database:
        rows = database.execute("select key, value, step from metrics order by key, step").fetchall()
    found: dict[str, list[tuple[float, int]]] = {}
    for key, value, step in rows:
        found.setdefault(key, []).append((value, step))
    return found


def statuses(folder: Path) -> list[str]:
    with sqlite3.connect(folder / "mlruns" / "mlflow.db") as database:
        return [status for (status,) in database.execute("select status from runs")]


class TestScreen:
    def test_says_one_line_an_epoch_and_a_closing_block(self, trained):
        epochs = re.findall(
            r"^epoch (\d)/3  train/loss [\d.]+ acc [\d.]+  val/loss [\d.]+ acc [\d.]+  [\d.]+ s$",
            trained.output,
            re.MULTILINE,
        )
        assert epochs == ["1", "2", "3"]
        for name in ("test/acc", "test/loss", "best epoch", "wall time", "MLflow run", "folder", "open it"):
            assert re.search(rf"^{name}  ", trained.output, re.MULTILINE), name
        assert trained.run.info.run_id in trained.output
        assert "\x1b" not in trained.output, "no terminal, no colours"

    def test_shows_the_layers_with_shapes_and_counts(self, trained):
        # conv2: 8 filters of 2x2 on 4 channels, and 8 biases.
        assert re.search(r"conv2 \(\w+\) +\(None, 8, 14, 14\) +136$", trained.output, re.MULTILINE)

    @pytest.mark.cold
    def test_help_lists_groups_without_importing_torch(self):
        script = (
            "import sys, runpy; sys.argv = ['train.py', '--help']\n"
            "try: runpy.run_path('train.py', run_name='__main__')\n"
            "except SystemExit: pass\n"
            "print('heavy:', [name for name in ('torch', 'mlflow', 'pytorch_lightning') if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert "model: cnn_dropout, convnet, deep_cnn, dnn, fashion_cnn, mlp, resnet, simple_cnn" in " ".join(
            done.stdout.split()
        )
        assert "dataset: cifar10, digits, fashion_mnist, image_folder, kmnist, mnist" in done.stdout
        assert "regularization: dropout, dropout_l2, l2, none" in done.stdout
        assert "heavy: []" in done.stdout, "--help must not wait for heavy imports"


class TestRecord:
    def test_finishes_with_metrics_of_every_epoch(self, trained):
        assert trained.run.info.status == "FINISHED"
        recorded = metrics_of(trained.folder)
        for name in ("train/loss", "train/acc", "train/objective", "val/loss", "val/acc", "val/objective"):
            assert [step for _, step in recorded[name]] == [1, 2, 3], name
        for name in ("learning_rate", "epoch_seconds", "train/samples_per_second"):
            assert len(recorded[name]) == 3, name
        # At step 0 MLflow draws a bar; a single value of a later step it draws as a curve of one dot.
        for name in ("test/loss", "test/acc", "test/objective", "best/val/acc", "best_epoch", "training_seconds"):
            assert [step for _, step in recorded[name]] == [0], name
        assert recorded["best_epoch"][0][0] == min(recorded["val/loss"])[1]
        assert [name for name in recorded if name.count("/") > 1 and not name.startswith("best/")] == []
        # The default regularization has a penalty, so the objective is above the cross-entropy.
        assert recorded["train/objective"][0][0] > recorded["train/loss"][0][0]

    def test_keeps_configuration_code_and_machine(self, trained):
        parameters, tags = trained.run.data.params, trained.run.data.tags
        assert parameters["model.filters"] == "[4, 8]"
        assert parameters["regularization.l2"] == "0.0001"
        assert parameters["seed"] == "0"
        assert tags["version.torch"] == torch.__version__.split("+")[0] and tags["device"] == "cpu"
        assert "train.py model=simple_cnn 'model.filters=[4,8]'" in tags["command"]

    def test_keeps_the_artifacts(self, trained):
        client = mlflow.MlflowClient(trained.uri)
        names = {item.path for item in client.list_artifacts(trained.run.info.run_id)}
        assert {"config.yaml", "environment.txt", "checkpoints"} <= names
        (checkpoint,) = client.list_artifacts(trained.run.info.run_id, "checkpoints")
        assert re.fullmatch(r"checkpoints/epoch_0\d-val_loss_\d\.\d{4}\.ckpt", checkpoint.path)
        text = mlflow.artifacts.load_text(f"{trained.run.info.artifact_uri}/config.yaml")
        assert OmegaConf.create(text).model.filters == [4, 8]
        assert "torch==" in mlflow.artifacts.load_text(f"{trained.run.info.artifact_uri}/environment.txt")

    def test_keeps_the_lineage_of_the_data(self, trained):
        (lineage,) = trained.run.inputs.dataset_inputs
        data = loaded("digits")
        assert (lineage.dataset.name, lineage.dataset.digest) == ("digits", data.digest)
        assert '"train": 1293' in lineage.dataset.profile and '"test": 360' in lineage.dataset.profile

    @pytest.mark.cold
    @pytest.mark.slow
    def test_the_line_that_uses_the_model_works_from_any_folder(self, trained, tmp_path):
        (line,) = re.findall(r"^use it +(import mlflow; .*)$", trained.output, re.MULTILINE)
        script = (
            "import sys; sys.modules['cnnlab'] = None  # as where it is not installed\n"
            f"import numpy\n{line}\n"
            "images = numpy.zeros((3, 1, 28, 28), 'uint8')\n"
            "named = model.predict(images, params={'labels': True})\n"
            "print(model.predict(images).shape, *named.columns, *model.metadata.metadata['class_names'])"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120
        )
        names = " ".join(map(str, range(10)))
        assert done.stdout.strip() == f"(3, 10) class probability probabilities {names}", done.stderr
        assert not list(tmp_path.iterdir()), "no stray store"

    def test_logged_model_predicts_the_checkpoints_classes_for_any_batch_size(self, trained):
        mlflow.set_tracking_uri(trained.uri)
        (model,) = mlflow.search_logged_models([trained.run.info.experiment_id], output_format="list")
        predictor, graph = mlflow.pyfunc.load_model(model.model_uri), mlflow.pytorch.load_model(model.model_uri)
        (file,) = (trained.folder / "outputs").glob("*/*/checkpoints/epoch_*.ckpt")
        data = loaded("digits")
        network = load_saved(file).classifier.network
        for size in (1, 2, 7):
            images = data.test_images[:size].float()
            with torch.no_grad():
                expected = network(images / 255).softmax(1).numpy()
            probabilities = predictor.predict(images.numpy())
            assert probabilities.dtype == np.float32
            np.testing.assert_array_equal(predictor.predict(data.test_images[:size].numpy()), probabilities)
            np.testing.assert_array_equal(graph(images).detach().numpy(), probabilities)
            np.testing.assert_allclose(probabilities, expected, atol=1e-5)
            np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
            named = predictor.predict(images.numpy(), params={"labels": True})
            assert list(named["class"]) == [data.class_names[index] for index in expected.argmax(1)]
            np.testing.assert_allclose(named["probability"], expected.max(1), atol=1e-5)
            np.testing.assert_allclose([list(row.values()) for row in named["probabilities"]], expected, atol=1e-5)
            assert list(named["probabilities"][0]) == list(data.class_names)

    @pytest.mark.parametrize(
        ("images", "words"),
        [
            (np.zeros((7, 1, 5, 28), "float32"), r"takes .* \[N, 1, 28, 28\]; given are float32 \[7, 1, 5, 28\]"),
            (np.full((1, 1, 28, 28), -1.0), r"given are values -1.0 to -1.0"),
            (np.full((1, 1, 28, 28), "a"), r"given are <U1"),
        ],
    )
    def test_logged_model_refuses_what_are_no_pixels(self, trained, images, words):
        mlflow.set_tracking_uri(trained.uri)
        (model,) = mlflow.search_logged_models([trained.run.info.experiment_id], output_format="list")
        with pytest.raises(MlflowException, match=words):
            mlflow.pyfunc.load_model(model.model_uri).predict(images)


class TestSeeds:
    @pytest.mark.slow
    def test_same_seed_same_metrics_bit_for_bit_and_zero_is_a_seed(self, tmp_path):
        results = []
        for name, seed in (("a", 0), ("b", 0), ("c", 1)):
            (tmp_path / name).mkdir()
            done = run(tmp_path / name, "train.py", "model=deep_cnn", "model.filters=[4,4]", *QUICK[2:], f"seed={seed}")
            assert done.returncode == 0, done.stderr
            recorded = metrics_of(tmp_path / name)
            results.append([recorded[key] for key in ("train/loss", "train/acc", "val/loss", "test/loss")])
        assert results[0] == results[1]
        assert results[0] != results[2]


class TestEnd:
    @pytest.mark.slow
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_interrupted_run_is_killed(self, tmp_path, number):
        process = subprocess.Popen(
            command("train.py", "model=dnn", "trainer.max_epochs=100000", "callbacks=best_checkpoint"),
            cwd=tmp_path,
            env=environment(PYTHONUNBUFFERED="1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for line in process.stdout:
            if line.startswith("epoch"):
                break
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 128 + number
        assert statuses(tmp_path) == ["KILLED"]
        assert "Traceback" not in errors
        stopped, kept, measure, again = errors.strip().splitlines()[-4:]
        assert stopped == f"error: stopped by {number.name}"
        told = re.fullmatch(
            r"MLflow run (\w+) is KILLED; kept is the checkpoint of epoch (\d+) \(val/loss (.+)\)", kept
        )
        run_id, epoch, loss = told.groups()
        client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
        metrics = client.get_run(run_id).data.metrics
        assert metrics["best_epoch"] == int(epoch) and f"{metrics['best/val/loss']:.4f}" == loss
        assert measure == f"measure it: python evaluate.py run={run_id}"
        done = run(tmp_path, *shlex.split(measure)[3:], "figures.enabled=false")
        assert done.returncode == 0 and "test/acc" in done.stdout, done.stderr
        assert again == f"go on with it: python train.py resume={run_id}"

    def test_failing_run_is_failed_and_keeps_its_error(self, tmp_path):
        (tmp_path / "failing.py").write_text(FAILING)
        done = run(tmp_path, "train.py", *QUICK, "+callbacks.mine._target_=failing.Failing")
        assert done.returncode == 1
        assert statuses(tmp_path) == ["FAILED"]
        with sqlite3.connect(tmp_path / "mlruns" / "mlflow.db") as database:
            (error,) = database.execute("select value from tags where key = 'error'").fetchone()
        assert error == "RuntimeError: after an epoch"


class TestTogether:
    @pytest.mark.slow
    def test_four_runs_meet_an_absent_store(self, tmp_path):
        processes = [
            subprocess.Popen(
                command("train.py", *QUICK, f"seed={seed}"), cwd=tmp_path, env=environment(), stderr=subprocess.PIPE
            )
            for seed in range(4)
        ]
        for process in processes:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors.decode()
        assert statuses(tmp_path) == ["FINISHED"] * 4
        assert len(list((tmp_path / "outputs").glob("*/*"))) == 4

    def test_multirun_runs_the_rest_when_one_job_is_wrong(self, tmp_path):
        done = run(tmp_path, "train.py", "-m", *QUICK[1:], "model=dnn", "batch_size=0,32")
        assert done.returncode == 2
        assert "batch_size=0" in done.stderr
        assert statuses(tmp_path) == ["FINISHED"]


def test_a_server_that_is_not_there_is_one_line(tmp_path):
    done = run(tmp_path, "train.py", *QUICK, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1 and "http://127.0.0.1:9" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_one_line_and_the_run_is_failed(tmp_path):
    with small_disk(tmp_path, "2m"):
        done = run(tmp_path, "train.py", "model=deep_cnn", "trainer.max_epochs=2", "figures.enabled=false")
        assert done.returncode == 1
        assert [line for line in done.stderr.splitlines() if "Traceback" in line] == []
        assert done.stderr.splitlines()[-1].startswith("error: the disk is full")
        assert statuses(tmp_path) == ["FAILED"]
