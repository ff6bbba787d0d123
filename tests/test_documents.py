"""Every command that README and docs show is run, cut short by the tables below; what is not run is named, and why."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import mlflow
import pytest
import yaml

from cnnlab.job import compose_job
from cnnlab.options import name_run, options_first
from cnnlab.quoting import name_words, quote_texts
from cnnlab.tracking.schema import Tag
from commands import ROOT, environment, run
from documents import commands_in, inline_commands_in, pages, text_of
from drawings import draw_digit, make_photos
from tracking_server import free_port

# Pages whose commands a test of their own runs.
ELSEWHERE = {
    "README.md": "tests/strangers/test_strangers.py",
    "README.ko.md": "test_the_readers_of_either_language_see_commands_that_are_run",
    "docs/adding_your_own.md": "tests/test_adding_your_own.py",
}
# What stands for a page's own values: the bundled digits for archives that are not everywhere.
INSTEAD = (
    (r"\b(dataset=)(mnist|fashion_mnist)\b", r"\1digits"),
    (r"\b(experiment=\w+)", r"\1 dataset=digits"),
    (r"\b(mnist|fashion_mnist)@", "digits@"),
    (r"\btrainer\.max_epochs=\d+ ?", ""),
    (r"\bsweep\.(n_trials|n_workers|final_seeds)=\d+", ""),
    (r"\bcompare\.max_seeds=\d+", ""),
    (r"\bcheckpoint=PATH\b", "checkpoint=kept.ckpt"),
)
# What is added to each command, by its door: a training is an epoch of two batches, a sweep two trials.
TRAINING = ["trainer.max_epochs=1", "+trainer.limit_train_batches=2"]
LEAN = ["figures.enabled=false", "tracking.system_metrics=false", "tracking.log_model=false"]
SHORT = {
    "train": [*TRAINING, "tracking.system_metrics=false", "figures.enabled=false"],
    "sweep": [*TRAINING, *LEAN, "sweep.n_trials=2", "sweep.n_workers=1", "sweep.final_seeds=0"],
    "compare": ["compare.max_seeds=3"],
    "evaluate": ["figures.enabled=false"],
}
# Commands that end with one line where there is no GPU: what stands in it.
REFUSED = {"trainer.accelerator=gpu": "accelerator"}
# Commands that nobody runs here: the beginning of the line, why, and what tests it instead.
NOT_RUN = {
    "export ": "sets variables of the reader's shell",
    "torchrun ": "tests/faults/test_many_devices.py, tests/test_ranks.py",
    "srun ": "no SLURM here",
    "sbatch ": "no SLURM here; test_the_scripts_for_slurm_start_what_they_say",
    "DATABASE_PASSWORD=": "no Docker here; test_the_compose_file_starts_a_server_that_mlflow_knows",
    "make ": "tests/strangers/test_strangers.py; test_make_docs_finds_no_broken_link",
    "mlflow server ": "test_the_compose_file_starts_a_server_that_mlflow_knows, tests/strangers/test_strangers.py",
    "MLFLOW_TRACKING_URI=": "tests/test_registering.py",
    "curl ": "tests/test_registering.py",
}


def runs_here() -> list[str]:
    """Return the pages with commands that no other test runs."""
    return [page for page in pages() if page not in ELSEWHERE and any(map(is_run, commands_in(page)))]


def is_run(line: str) -> bool:
    return not line.startswith(tuple(NOT_RUN))


@pytest.fixture(scope="module")
def kept(trained, tmp_path_factory) -> Path:
    """Return a folder with three runs of three epochs, the last of them its own."""
    folder = tmp_path_factory.mktemp("kept") / "project"
    shutil.copytree(trained.folder, folder)
    for seed in (1, 2):
        done = run(folder, "train.py", "like=best", f"seed={seed}", *TRAINING, *LEAN)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def reader(kept, tmp_path) -> Path:
    """Return a reader's folder: the runs, images, and a checkpoint that somebody gave them."""
    folder = tmp_path / "project"
    shutil.copytree(kept, folder)
    for name in ("birds", "pets"):
        make_photos(folder / name, ("one", "two"), 15)
    for name in ("digit.png", "scans/digit.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        draw_digit(folder / name)
    shutil.copy(next(folder.glob("outputs/*/*/checkpoints/epoch_*.ckpt")), folder / "kept.ckpt")
    shutil.copytree(ROOT / "docs" / "tour", folder / "docs" / "tour")
    return folder


def run_ids(folder: Path) -> list[str]:
    """Return the runs, the latest first: a page's RUN_ID is the one that its commands have just trained."""
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    found = client.search_runs([item.experiment_id for item in client.search_experiments()])
    found = [
        item for item in found if Tag.ROLE not in item.data.tags
    ]  # none that another command has trained for itself
    return [item.info.run_id for item in sorted(found, key=lambda item: item.info.start_time, reverse=True)]


def shortened(line: str, ids: list[str]) -> tuple[str, list[str]]:
    """Return the door and the arguments of a documented line, with what the reader fills in, cut short."""
    for name in ids:
        line = re.sub(r"\b(OTHER_ID|RUN_ID)\b", name, line, count=1)
    for pattern, instead in INSTEAD:
        line = re.sub(pattern, instead, line)
    _, file, *arguments = shlex.split(line)
    door = file.removesuffix(".py")
    if any(item.startswith("resume=") for item in arguments):
        longer = 3 + len(ids)  # than any of the runs, of which each command adds one; nothing else is the command's
        return door, [*arguments, f"trainer.max_epochs={longer}", "figures.enabled=false"]
    if door == "compare":
        fewer = [] if "compare.folds=true" in arguments else SHORT[door]  # there are as many pairs as folds
        return door, [*map(short_side, arguments), *fewer]
    return door, [*arguments, *SHORT.get(door, [])]


def short_side(argument: str) -> str:
    """Return an argument of compare.py, a side of settings cut short; a run is left as it is."""
    key, _, text = argument.partition("=")
    return f"{key}={text} {' '.join(TRAINING)}" if key in ("a", "b") and "=" in text else argument


def test_what_is_not_run_is_shown_somewhere_and_every_page_of_the_tables_is_there():
    shown = [line for page in pages() for line in commands_in(page)]
    assert [start for start in NOT_RUN if not any(line.startswith(start) for line in shown)] == []
    assert [page for page in ELSEWHERE if page not in pages()] == []


@pytest.mark.slow
@pytest.mark.parametrize("page", runs_here())
def test_every_command_of_a_page_runs(page, reader):
    for line in filter(is_run, commands_in(page)):
        door, arguments = shortened(line, run_ids(reader))
        done = run(reader, f"{door}.py", *arguments)
        refused = [said for part, said in REFUSED.items() if part in line]
        if refused and done.returncode == 2:
            assert refused[0] in done.stderr and len(done.stderr.splitlines()) == 1, (line, done.stderr)
        else:
            assert done.returncode == 0 and "Traceback" not in done.stderr, (line, arguments, done.stderr)


@pytest.mark.parametrize("page", [page for page in pages() if inline_commands_in(page)])
def test_every_command_in_a_sentence_has_settings_that_there_are(page, tmp_path):
    for line in inline_commands_in(page):
        _, file, *arguments = shlex.split(line)
        door = file.removesuffix(".py")
        if "--config-dir" in arguments:  # what lies in the reader's folder
            continue
        words = {"diff": ("a", "b")}.get(door, ())
        arguments = name_words(arguments, words)
        given = [item for item in options_first(quote_texts(name_run(door, arguments))) if not item.startswith("-")]
        multirun = "-m" in arguments
        compose_job(door, [item.split(",")[0] if multirun else item for item in given], folder=tmp_path)


def test_make_docs_finds_no_broken_link(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, env=environment(NO_MKDOCS_2_WARNING="1"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "tour.html").is_file()
    broken = [
        f"{page}: {link}"
        for page in pages()
        if not page.startswith("docs/")
        for link in re.findall(r"\]\((?!http)([^)#]+)", text_of(page))
        if not (ROOT / link).exists()
    ]
    assert broken == []


def test_the_readers_of_either_language_see_commands_that_are_run():
    known = {line for page in pages() if page != "README.ko.md" for line in commands_in(page)}
    assert [line for line in commands_in("README.ko.md") if line not in known] == []


@pytest.mark.parametrize(("name", "door"), [("slurm_train.sh", "train.py"), ("slurm_sweep.sh", "sweep.py")])
def test_the_scripts_for_slurm_start_what_they_say(name, door, tmp_path):
    for program in ("srun", ".venv/bin/python"):
        stand_in = tmp_path / program
        stand_in.parent.mkdir(parents=True, exist_ok=True)
        stand_in.write_text('#!/bin/bash\n[[ $0 == *srun ]] && exec "$@"\necho "$@"\n')
        stand_in.chmod(0o755)
    where = {"MLFLOW_TRACKING_URI": "http://host:5000", "CNNLAB_STORAGE": "postgresql://host/sweeps"}
    variables = where | {"SLURM_ARRAY_TASK_ID": "7", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["bash", str(ROOT / "docs" / name), "model=deep_cnn"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(**variables), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == door and done.stdout.split()[-1] == "model=deep_cnn"
    assert ("seed=7" in done.stdout) == (door == "train.py")
    alone = environment(SLURM_ARRAY_TASK_ID="7")
    refused = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True)
    assert refused.returncode != 0 and "export " in refused.stderr


@pytest.mark.slow
def test_the_compose_file_starts_a_server_that_mlflow_knows(tmp_path):
    services = yaml.safe_load((ROOT / "docs" / "compose.yaml").read_text())["services"]
    assert {port for service in services.values() for port in service["ports"]} == {"5000:5000", "5432:5432"}
    port = free_port()
    given = {"--port": str(port), "--host": "127.0.0.1", "--artifacts-destination": str(tmp_path / "artifacts")}
    given |= {"--backend-store-uri": f"sqlite:///{tmp_path}/runs.db", "--workers": "1"}
    program, *rest = services["mlflow"]["command"]
    keys = [item.partition("=")[0] for item in rest]
    command = [sys.executable, "-m", program, *(f"{key}={given[key]}" if key in given else key for key in keys)]
    assert set(given) <= set(keys)
    variables = {
        key: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) for key, value in services["mlflow"]["environment"].items()
    }
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment(**variables), stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(300):
            assert server.poll() is None, (tmp_path / "log").read_text()
            with suppress(OSError):
                if urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).status == 200:
                    break
            time.sleep(0.2)
        assert mlflow.MlflowClient(f"http://127.0.0.1:{port}").search_experiments()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(request, timeout=5)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
