"""The package as somebody installs it: a wheel in a fresh environment, an empty folder and an empty home."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from commands import ROOT

PARTS = ("src", "conf", "pyproject.toml", "README.md", "LICENSE")


def build(folder: Path) -> Path:
    """Build the wheel of a copy: setuptools leaves its folders where it builds, and takes what it finds in them."""
    for name in PARTS:
        here = ROOT / name
        if here.is_dir():
            shutil.copytree(here, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(here, folder / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder / "dist")]
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


def test_the_wheel_holds_every_module_and_the_whole_configuration(tmp_path):
    with zipfile.ZipFile(build(tmp_path)) as archive:
        names = set(archive.namelist())
    for here, there in ((ROOT / "src", ""), (ROOT / "conf", "cnnlab/conf/")):
        files = [file for file in here.rglob("*.*") if file.suffix in (".py", ".yaml")]
        assert {f"{there}{file.relative_to(here).as_posix()}" for file in files} <= names
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"cnnlab": "cnnlab.__main__:main"}


@dataclass(frozen=True)
class Installed:
    """An environment that has the wheel and nothing of the checkout, and an empty home."""

    folder: Path

    def run(self, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment in `folder`."""
        names = ("PATH", "LANG", "OMP_NUM_THREADS")
        environment = {name: os.environ[name] for name in names if name in os.environ}
        environment |= {"HOME": str(self.folder / "home"), "COLUMNS": "80"}
        program = str(self.folder / "environment" / "bin" / arguments[0])
        return subprocess.run(
            [program, *arguments[1:]], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Installed:
    folder = tmp_path_factory.mktemp("installed")
    (folder / "home").mkdir()
    (folder / "source").mkdir()
    wheel = build(folder / "source")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "environment")], check=True)
    pip = [str(folder / "environment" / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-input"]
    lock = str(ROOT / "requirements.lock")
    done = subprocess.run([*pip, "--constraint", lock, str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    yield Installed(folder)
    shutil.rmtree(folder / "environment")  # 6 GB


SMALL = ("model=dnn", "trainer.max_epochs=2")


@pytest.mark.slow
def test_it_trains_sweeps_predicts_and_reports_in_an_empty_folder(installed, tmp_path):
    done = installed.run("cnnlab", "train", *SMALL, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "test/acc" in done.stdout and "cnnlab ui, then http" in done.stdout
    assert "train.py" not in done.stdout and "make" not in done.stdout
    assert {item.name for item in tmp_path.iterdir()} == {"mlruns", "outputs"}
    done = installed.run("cnnlab", "evaluate", "run=best", "figures.enabled=false", folder=tmp_path)
    assert done.returncode == 0 and "test/acc" in done.stdout, done.stderr
    done = installed.run("cnnlab", "report", folder=tmp_path)
    assert done.returncode == 0 and "cnnlab report" in done.stdout, done.stderr
    search = ("search=mlp", "sweep.n_trials=1", "sweep.final_seeds=1")
    done = installed.run("cnnlab", "sweep", *SMALL, *search, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (typed,) = [line.split(None, 2)[2] for line in done.stdout.splitlines() if line.startswith("run it")]
    assert typed.startswith("cnnlab train --config-dir ")
    done = installed.run(*typed.split(), "figures.enabled=false", folder=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_folder_conf_beside_it_is_taken_as_ones_own(installed, tmp_path):
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "tiny.yaml").write_text("defaults: [mlp]\n\nname: tiny\nhidden_units: [3]\n")
    done = installed.run("cnnlab", "train", "model=tiny", "trainer.max_epochs=1", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "dense1 (Linear)" in done.stdout and "2,355" in done.stdout  # 784 * 3 + 3
    done = installed.run("cnnlab", "train", "--help", folder=tmp_path)
    assert "tiny" in done.stdout and "cnnlab train model=deep_cnn" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.slow
def test_several_devices_are_started_again_with_the_same_command(installed, tmp_path):
    devices = ("trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp", "figures.enabled=false")
    done = installed.run("cnnlab", "train", *SMALL, *devices, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 2/2") == 1


@pytest.mark.slow
def test_the_library_is_there_too_and_mistakes_are_one_line(installed, tmp_path):
    script = "from cnnlab import train; print('got', train('model=dnn', 'trainer.max_epochs=1').metrics['test/acc'])"
    done = installed.run("python", "-c", script, folder=tmp_path)
    assert done.returncode == 0 and "got 0." in done.stdout, done.stderr
    for arguments, words in (
        (("trian",), "did you mean 'train'?"),
        (("train", "epochs=3"), "did you mean 'trainer.max_epochs'?"),
    ):
        done = installed.run("cnnlab", *arguments, folder=tmp_path)
        assert done.returncode == 2 and words in done.stderr and len(done.stderr.splitlines()) == 1
