"""A training that starts from another run's settings, as a user types and reads it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
import yaml
from omegaconf import OmegaConf

from cnnlab.quoting import quote_texts
from cnnlab.settings.merging import Command, merge
from cnnlab.settings.read import resolve
from cnnlab.tracking.store import prepare
from commands import composed, run

FIRST = (
    "model=mlp",
    "model.hidden_units=[8]",
    "optimizer=sgd",
    "optimizer.momentum=0.5",
    "batch_size=64",
    "trainer.max_epochs=1",
    "figures.enabled=false",
    "tracking.log_model=false",
)


@dataclass(frozen=True)
class Project:
    """A folder with one run, and what commands in it leave."""

    folder: Path
    first: str

    @property
    def client(self) -> mlflow.MlflowClient:
        return mlflow.MlflowClient(f"sqlite:///{self.folder}/mlruns/mlflow.db")

    def train(self, *overrides: str) -> str:
        done = run(self.folder, "train.py", *overrides)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *overrides: str) -> list[str]:
        done = run(self.folder, "train.py", *overrides)
        assert (done.returncode, done.stdout) == (2, ""), done
        return done.stderr.splitlines()

    def runs(self) -> list[mlflow.entities.Run]:
        return [item for item in self.client.search_runs(["1"]) if "like" in item.data.tags]

    def settings(self, run_id: str) -> dict:
        (file,) = self.folder.glob(f"mlruns/artifacts/digits/{run_id}/artifacts/config.yaml")
        return yaml.safe_load(file.read_text())


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    folder = tmp_path_factory.mktemp("project")
    done = run(folder, "train.py", *FIRST)
    assert done.returncode == 0, done.stderr
    (only,) = mlflow.MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db").search_runs(["1"])
    return Project(folder, only.info.run_id)


def test_a_run_is_repeated_with_one_key_changed(project):
    said = project.train(f"like={project.first[:8]}", "optimizer.momentum=0.25", "seed=3")
    name = f"like {project.first} (mlp-dropout_l2-seed0)"
    assert said.splitlines()[0] == f"{name}: seed 0 -> 3, optimizer.momentum 0.5 -> 0.25"
    latest = project.runs()[0]
    old, new = project.settings(project.first), project.settings(latest.info.run_id)
    assert new["optimizer"] == old["optimizer"] | {"momentum": 0.25}
    for key in ("model", "dataset", "regularization", "trainer", "callbacks", "figures", "batch_size"):
        assert new[key] == old[key], key
    assert latest.info.run_name == "mlp-dropout_l2-seed3", "a name that was derived is derived again"
    assert latest.data.tags["like"] == project.first
    assert latest.data.tags["overrides"] == f"like={project.first} optimizer.momentum=0.25 seed=3"
    door, *typed = shlex.split(latest.data.tags["command"])[1:]
    assert door.endswith("train.py") and typed == [f"like={project.first}", "optimizer.momentum=0.25", "seed=3"]


def test_the_last_run_is_meant_by_its_id_and_a_group_replaces_its_section(project):
    said = project.train(
        "like=last", "model=dnn", "model.hidden_units=[4]", "regularization=l2", "+trainer.min_epochs=1"
    )
    latest, *before = project.runs()
    origin = before[0].info.run_id if before else project.first
    assert latest.data.tags["overrides"].startswith(f"like={origin} model=dnn")
    new = project.settings(latest.info.run_id)
    assert (new["model"]["name"], new["model"]["hidden_units"]) == ("dnn", [4])
    assert new["regularization"]["name"] == "l2" and new["regularization"]["dense_dropout"] == 0
    assert new["trainer"]["min_epochs"] == 1 and new["trainer"]["max_epochs"] == 1
    assert new["optimizer"]["name"] == "sgd" and new["batch_size"] == 64
    assert "model.hidden_units [8] -> [4]" in said and "trainer.min_epochs not set -> 1" in said


def test_all_jobs_of_a_grid_start_from_the_same_run(project):
    before = {item.info.run_id for item in project.runs()}
    latest = project.client.search_runs(["1"])[0].info.run_id
    project.train("-m", "like=last", "optimizer.lr=0.1,0.2")
    new = [item for item in project.runs() if item.info.run_id not in before]
    assert {item.data.tags["like"] for item in new} == {latest}
    assert sorted(float(item.data.params["optimizer.lr"]) for item in new) == [0.1, 0.2]


def test_what_is_wrong_is_told_together_and_by_name(project):
    lines = project.refused(f"like={project.first}", "optimizer.momentum=2", "trainer.max_epoch=3")
    assert len(lines) == 2 and "optimizer.momentum=2 is not allowed" in lines[0] + lines[1]
    assert "max_epoch" in lines[1]
    assert "like='nothing' is unknown; allowed: a run's id, best or last" in project.refused("like=nothing")[0]
    assert "both say where to start" in project.refused("like=last", "experiment=mnist_mlp")[0]
    assert "only train.py" in run(project.folder, "sweep.py", "like=last", "search=mlp").stderr


@pytest.fixture
def old_run(tmp_path):
    """A function that keeps a run with given settings, as another version or somebody else would have."""
    uri = f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    experiment = prepare(uri, "digits")
    client = mlflow.MlflowClient(uri)

    def keep(change) -> str:
        values = composed(*FIRST)
        del values["like"]
        change(values)
        run_id = client.create_run(experiment, run_name="old").info.run_id
        client.log_text(run_id, yaml.safe_dump(values), "config.yaml")
        return run_id

    return keep


def test_what_an_older_run_lacks_is_as_today_and_what_it_has_too_much_is_told(old_run, tmp_path):
    lacking = old_run(lambda values: values["optimizer"].pop("nesterov"))
    done = run(tmp_path, "train.py", f"like={lacking}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == [
        f"like {lacking} (old): the same settings",
        f"like {lacking} (old) is of an older version, what it did not have is as today: optimizer.nesterov=false",
    ]
    odd = old_run(lambda values: values["optimizer"].update(speed=3))
    done = run(tmp_path, "train.py", f"like={odd}")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: like={odd}, which may be of another version: optimizer.speed is no setting;")
    again = run(tmp_path, "train.py", f"like={odd}", "optimizer=adam")
    assert again.returncode == 0, again.stderr


def test_code_that_only_a_run_names_is_never_called(old_run, tmp_path):
    own = {"_target_": "builtins.open", "file": str(tmp_path / "owned"), "mode": "w"}
    run_id = old_run(lambda values: values.update(model=own))
    done = run(tmp_path, "train.py", f"like={run_id}")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "model._target_='builtins.open', and nothing that a run names is called" in done.stderr
    hidden = [{"name": "m", "direction": "max", **own}]
    run_id = old_run(lambda values: values.update(metrics=hidden))
    done = run(tmp_path, "train.py", f"like={run_id}")
    assert done.returncode == 2
    assert "metrics.0._target_='builtins.open'" in done.stderr and "name it again: metrics=[...]" in done.stderr
    assert not (tmp_path / "owned").exists()
    again = run(tmp_path, "train.py", f"like={run_id}", "metrics=[f1]")
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("metrics", [{"name": "x", "_target_": "builtins.open", "direction": "max", "file": "owned", "mode": "w"}]),
        ("callbacks", {"checkpoint": {}, "x": {"_target_": "builtins.open", "file": "owned", "mode": "w"}}),
        ("loggers", {"x": {"_target_": "builtins.open", "file": "owned", "mode": "w"}}),
        ("loss", {"_target_": "mine.loss", "weight": [{"_target_": "builtins.open", "file": "owned", "mode": "w"}]}),
        ("dataset", {"name": "x", "_target_": "builtins.open", "file": "owned", "mode": "w"}),
    ],
)
def test_no_section_of_a_run_has_its_code_called(old_run, tmp_path, key, value):
    run_id = old_run(lambda values: values.update({key: value}))
    trusted = ["+loss._target_=mine.loss"] if key == "loss" else []
    done = run(tmp_path, "train.py", f"like={run_id}", *trusted)
    assert done.returncode == 2
    assert "'builtins.open', and nothing that a run names is called" in done.stderr
    assert not (tmp_path / "owned").exists()


def test_own_code_that_the_command_names_again_keeps_the_runs_arguments(old_run, tmp_path):
    code = "import torch\ndef net(input_shape, classes, width, **others):\n"
    code += "    layers = [torch.nn.Flatten(), torch.nn.Linear(784, width), torch.nn.Linear(width, classes)]\n"
    (tmp_path / "mine.py").write_text(code + "    return torch.nn.Sequential(*layers)\n")
    own = {"_target_": "mine.net", "name": "net", "width": 3}
    run_id = old_run(lambda values: values.update(model=own))
    done = run(tmp_path, "train.py", f"like={run_id}", "model._target_=mine.net", "seed=1", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"like {run_id} (old): seed 0 -> 1\n")


def test_a_text_of_the_run_that_looks_like_an_interpolation_stays_a_text(monkeypatch):
    monkeypatch.setenv("SECRET", "s3cret")
    fresh = {"tracking": {"run_name": "${model.name}", "uri": "${oc.env:HOME}"}, "model": {"name": "a"}}
    old = {"tracking": {"run_name": "${oc.env:SECRET}", "uri": "sqlite:///there"}, "model": {"name": "b"}}
    merged, added = merge(old, fresh, Command(frozenset(), ()))
    assert merged["tracking"] == {"run_name": "\\${oc.env:SECRET}", "uri": "${oc.env:HOME}"}
    assert merged["model"] == {"name": "b"} and not added


def test_keys_are_forced_beside_like_alone():
    assert quote_texts(["like=ab", "optimizer.momentum=0.9", "seed=1", "hydra.verbose=true", "+a.b=1"]) == [
        "like=ab",
        "++optimizer.momentum=0.9",
        "seed=1",
        "hydra.verbose=true",
        "+a.b=1",
    ]
    assert quote_texts(["like=null", "optimizer.momentum=0.9"])[1] == "optimizer.momentum=0.9"


@pytest.mark.parametrize("backslashes", ["", "\\", "\\\\", "\\\\\\"])
def test_nothing_that_a_run_kept_is_ever_filled_in(backslashes, monkeypatch):
    monkeypatch.setenv("SECRET", "told")
    kept = f"a\\b {backslashes}${{oc.env:SECRET}} {backslashes}${{oc.env:${{oc.env:SECRET}}}}"
    old = {"tracking": {"run_name": kept}, "freeze": [kept]}
    merged, _ = merge(old, {"tracking": {"run_name": "x"}, "freeze": []}, Command(frozenset(), ()))
    assert resolve(OmegaConf.create(merged)) == old
