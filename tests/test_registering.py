"""register.py and tracking.register=true: MLflow's registry, where a dataset's champion is loaded, served and asked."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import mlflow
import numpy as np
import pytest
from PIL import Image

import cnnlab
from cnnlab.errors import UsageError
from cnnlab.tracking import registry
from cnnlab.tracking.store import prepare, uri_of
from commands import environment, loaded, run
from tracking_server import free_port

QUICK = ("model=dnn", "trainer.max_epochs=1", "figures.enabled=false", "tracking.system_metrics=false")


@pytest.fixture(scope="module")
def project(trained, tmp_path_factory) -> Path:
    """Return a project whose run was registered, under another name of its folder than it has now."""
    folder = tmp_path_factory.mktemp("registered")
    before = Path(shutil.copytree(trained.folder, folder / "before"))
    done = run(before, "register.py", "run=best", "dataset=digits")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^registered +digits version 1: models:/digits@champion$", done.stdout, re.MULTILINE)
    return before.rename(folder / "project")


@pytest.fixture
def store(project) -> str:
    """Return the address of the project's store, mended, as MLflow's own for one test."""
    uri = uri_of(project / "mlruns" / "mlflow.db")
    prepare(uri, "digits")
    mlflow.set_tracking_uri(uri)
    return uri


def test_the_champion_is_loaded_by_name_and_takes_pixels_of_any_type(project, store, trained):
    model = mlflow.pyfunc.load_model("models:/digits@champion")
    images = loaded("digits").test_images[:5].numpy()
    assert images.dtype == np.uint8
    answers = model.predict(images)
    assert answers.shape == (5, 10) and np.allclose(answers.sum(1), 1)
    for kind in (np.int64, np.float32, np.float64):
        assert np.array_equal(model.predict(images.astype(kind)), answers)
    with pytest.raises(mlflow.MlflowException, match="pixels from 0 to 255"):
        model.predict(images.astype(np.float32) - 1)


def test_the_champion_answers_like_its_run_and_keeps_its_version(project, trained, tmp_path):
    Image.fromarray(loaded("digits").test_images[0, 0].numpy()).save(tmp_path / "digit.png")
    asked = [
        run(project, "predict.py", who, f"image={tmp_path}/digit.png", f"hydra.run.dir={tmp_path}/{name}")
        for name, who in (("named", "model=digits@champion"), ("best", "run=best"))
    ]
    assert [done.returncode for done in asked] == [0, 0], asked[0].stderr
    rows = [[line for line in done.stdout.splitlines() if "%" in line] for done in asked]
    assert rows[0] == rows[1] != []
    again = run(project, "register.py", f"run={trained.run.info.run_id[:8]}", "alias=candidate")
    assert "digits version 1: models:/digits@candidate" in again.stdout
    client = mlflow.MlflowClient(uri_of(project / "mlruns" / "mlflow.db"))
    assert "python predict.py model=digits@champion image=FILE" in client.get_registered_model("digits").description
    version = client.get_model_version("digits", "1")
    assert f"python train.py {trained.run.data.tags['overrides']}" in version.description


@pytest.mark.parametrize(
    ("door", "overrides", "line"),
    [
        ("register.py", (), "give run=RUN_ID (or run=best dataset=NAME)"),
        ("register.py", ("run=best", "alias=v1"), "alias='v1' is not allowed; "),
        ("register.py", ("run=best", "name=a/b"), "name='a/b' is not allowed; name takes a name without / and :"),
        ("register.py", ("run=nothing",), "run='nothing' is unknown; allowed: a run's id, best or last"),
        (
            "export.py",
            ("model=digits@champoin",),
            "run='digits@champoin' is unknown; allowed: digits@",
        ),
        ("evaluate.py", ("run=best", "model=digits@champion"), "model=digits@champion and run=best each name a "),
        ("train.py", ("tracking.register=true", "tracking.log_model=false"), "tracking.register=true needs the model"),
        ("train.py", ("tracking.register=true", "tracking.offline=true"), "tracking.register=true asks the server"),
        (
            "sweep.py",
            ("tracking.register=true", "sweep.final_seeds=0"),
            "tracking.register=true registers the winner, but sweep.final_seeds=0 trains none",
        ),
    ],
)
def test_a_mistake_is_one_line(project, door, overrides, line):
    done = run(project, door, *overrides)
    assert done.returncode == 2
    (said,) = done.stderr.splitlines()[-1:]
    assert said.startswith(f"error: {line}"), done.stderr


def entered(uri: str, name: str, **metrics: float) -> str:
    """Return a run that keeps a model and has reached something."""
    client = mlflow.MlflowClient(uri)
    run = client.create_run("0", run_name=name)
    model = client.create_logged_model("0", "model", run.info.run_id)
    client.log_outputs(run.info.run_id, [mlflow.entities.LoggedModelOutput(model.model_id, step=0)])
    for key, value in metrics.items():
        client.log_metric(run.info.run_id, f"best/val/{key}", value)
    return run.info.run_id


def test_a_run_becomes_champion_by_validation_alone_or_because_somebody_says_so(tmp_path):
    uri = uri_of(tmp_path / "mlflow.db")
    prepare(uri, "digits")
    first = registry.register(uri, entered(uri, "first", acc=0.9, loss=0.3), "digits", contest=True)
    assert first.describe() == "digits version 1: models:/digits@champion"
    worse = registry.register(uri, entered(uri, "worse", acc=0.8, loss=0.1), "digits", contest=True)
    assert worse.describe() == (
        "digits version 2: models:/digits/2; version 1 stays champion, with a validation accuracy of 0.9000 to 0.8000"
    )
    blind = registry.register(uri, entered(uri, "blind"), "digits", contest=True)
    assert "version 1 stays champion, as without validation nobody knows which is better" in blind.describe()
    better = [entered(uri, "equal", acc=0.9, loss=0.2), entered(uri, "seed", acc=0.7, loss=0.2)]
    best = registry.register_best(uri, better, "digits")
    assert best.describe() == "digits version 4: models:/digits@champion, in place of version 1"
    said = registry.register(uri, blind.run_id, "digits")
    assert said.describe() == "digits version 3: models:/digits@champion, in place of version 4"
    client = mlflow.MlflowClient(uri)
    assert registry.registered_run(client, "digits@champion").info.run_id == blind.run_id
    with pytest.raises(UsageError, match="keeps no model in MLflow: a trial"):
        registry.register(uri, client.create_run("0").info.run_id, "digits")


@pytest.mark.slow
def test_a_training_and_a_sweep_register_what_they_have_found(tmp_path):
    trained = run(tmp_path, "train.py", *QUICK, "+trainer.limit_train_batches=2", "tracking.register=true")
    assert re.search(r"^registered +digits version 1: models:/digits@champion$", trained.stdout, re.MULTILINE)
    searched = ("search=mlp", "sweep.n_trials=1", "sweep.final_seeds=1", "pruner=none", "tracking.register=true")
    swept = run(tmp_path, "sweep.py", *QUICK, *searched)
    assert swept.returncode == 0, swept.stderr
    assert "digits version 2: models:/digits@champion, in place of version 1" in swept.stdout
    model = cnnlab.load("digits@champion", f"tracking.uri={uri_of(tmp_path / 'mlruns' / 'mlflow.db')}")
    client = mlflow.MlflowClient(uri_of(tmp_path / "mlruns" / "mlflow.db"))
    version = client.get_model_version_by_alias("digits", "champion")
    assert version.run_id == model.run_id and client.get_run(model.run_id).data.tags["sweep.role"] == "winner"


@pytest.mark.slow
def test_mlflow_serves_the_champion(project, store):
    port = free_port()
    told = run(project, "register.py", "run=best").stdout
    (command,) = re.findall(r"^serve it +(.*)$", told, re.MULTILINE)
    bare = {"PATH": os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if ".venv" not in part)}
    with (project / "server.log").open("wb") as log:
        server = subprocess.Popen(
            ["bash", "-c", command.replace("5001", str(port))],
            cwd=project,
            env=environment(**bare),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(f"{address}/ping", server, project / "server.log")
        images = loaded("digits").test_images[:3].numpy()
        body = {"inputs": images.tolist(), "params": {"labels": True}}
        answers = ask(f"{address}/invocations", body)["predictions"]
        expected = mlflow.pyfunc.load_model("models:/digits@champion").predict(images)
        assert [answer["class"] for answer in answers] == [str(row.argmax()) for row in expected]
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(f"{address}/invocations", {"inputs": (images.astype(int) - 1).tolist()})
        assert refused.value.code == 400 and "pixels from 0 to 255" in refused.value.read().decode()
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)


def ask(address: str, body: dict) -> dict:
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(600):
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(log.read_text())
