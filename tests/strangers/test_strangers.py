"""Four people who never saw cnnlab, with only what its documents and its screen say: nobody stumbles."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
import urllib.request

import pytest

from drawings import draw_digit, make_photos
from strangers.walk import documented, python_block, run_id_in

pytestmark = pytest.mark.slow

SHORT = "trainer.max_epochs=1 +trainer.limit_train_batches=5"
SEARCHED = "sweep.n_trials=2 sweep.n_workers=1 sweep.final_seeds=1"
WITHOUT_DATA = re.compile(r"dataset=mnist|experiment=mnist")
FEWER = (  # jobs, and images: other lines still train on MNIST
    (r"seed=1,2,3", "seed=1"),
    (r"fold=0,1,2,3,4", "fold=0,1"),
    (r'(sweep\.py .*|[ab]=")dataset=mnist', r"\1dataset=digits"),
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(address: str) -> bool:
    for _ in range(120):
        try:
            return urllib.request.urlopen(address, timeout=5).status == 200
        except OSError:
            time.sleep(0.5)
    return False


def filled(line: str, run_id: str, other: str) -> str:
    """Return a documented line with what the reader has to fill in, cut short where it would train for minutes."""
    line = line.replace("OTHER_ID", other).replace("RUN_ID", run_id)
    for pattern, instead in FEWER:
        line = re.sub(pattern, instead, line)
    if " resume=" in line:
        return f"{line} trainer.max_epochs=2"  # the run has finished: another one goes on
    if (" train.py" in line and "--help" not in line) or line.startswith("cnnlab train"):
        return f"{line} {SHORT}"
    if " compare.py" in line:
        return re.sub(r'\b([ab])="', rf'\1="{SHORT} ', line) + " compare.max_seeds=3"
    return f"{line} {SHORT} {SEARCHED}" if " sweep.py" in line else line


def test_a_student_with_the_readme(clone):
    said = clone.type(f'make train ARGS="{SHORT}"', shows="test/acc")
    run_id = run_id_in(said)
    other = run_id_in(clone.type(f"python train.py seed=1 {SHORT}"))
    draw_digit(clone.folder / "shirt.png")
    for line in documented("README.md", "python"):
        if "CNNLAB_DATA" not in os.environ and WITHOUT_DATA.search(line):
            continue
        if "accelerator=gpu" in line:
            clone.type(line, code=2, shows="accelerator")
        elif "=photos" not in line:
            clone.type(filled(line, run_id, other))
    clone.type("make report", shows="deep_cnn")
    clone.type("make doctor", shows="runs")
    use = re.findall(r"^use it\s+(.*)", said, re.MULTILINE)[0]
    clone.type(f".venv/bin/python -c '{use}; print(model.metadata.run_id)'", shows=run_id)
    port = free_port()
    server = subprocess.Popen(["make", "ui", f"PORT={port}"], cwd=clone.folder, env=clone.environment)
    try:
        assert wait_for(f"http://127.0.0.1:{port}/")
        clone.type(f"make ui PORT={port}", code=2, shows="make ui PORT=5001")
    finally:
        server.terminate()
        server.wait(30)
    clone.type("python train.py modle=mlp", code=2, shows="did you mean 'model'?")
    clone.type("python train.py epochs=3", code=2, shows="trainer.max_epochs")
    assert clone.stumbles == []


def test_a_researcher_with_photos(clone):
    make_photos(clone.folder / "photos", ("고양이", "dog's"), 15)
    for split, each in (("train", 12), ("val", 5), ("test", 5)):
        make_photos(clone.folder / "split" / split, ("bird", "a cat"), each)
    said = clone.type(f"python train.py dataset=image_folder dataset.path=photos dataset.name=my_birds {SHORT}")
    assert "images: colour" in said
    before = clone.type("python evaluate.py run=best dataset=image_folder dataset.name=my_birds figures.enabled=false")
    make_photos(clone.folder / "photos", ("고양이", "dog's"), 4, seed=1)
    after = clone.type("python evaluate.py run=best dataset=image_folder dataset.name=my_birds figures.enabled=false")
    accuracy = re.compile(r"test/acc\s+(\S+)")
    assert accuracy.search(before)[1] == accuracy.search(after)[1] and "8 new images are left out" in after
    divided = "python train.py dataset=image_folder dataset.path=split dataset.name=split"
    clone.type(f"{divided} {SHORT}", shows="val from val/")
    clone.type(
        'python predict.py run=best dataset=image_folder dataset.name=split "image=photos/dog\'s"', shows="table"
    )
    clone.type(f"{divided} init_from={run_id_in(said)} 'freeze=[conv1*]' {SHORT}")
    clone.type(f"python train.py like={run_id_in(said)} optimizer.lr=0.01 {SHORT}", shows="optimizer.lr")
    clone.type(f"python diff.py {run_id_in(said)} last", shows="optimizer.lr")
    clone.type(f"python export.py run={run_id_in(said)} format=onnx path=birds.onnx", shows="birds.onnx")
    clone.type("python train.py dataset=image_folder dataset.path=nowhere", code=2, shows="nowhere")
    assert clone.stumbles == []


def test_a_team_behind_a_server(clone, tmp_path):
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    store = f"sqlite:///{tmp_path}/server.db"
    command = ["mlflow", "server", "--port", str(port), "--workers", "1", "--backend-store-uri", store]
    server = subprocess.Popen(
        [f"{clone.folder}/.venv/bin/{command[0]}", *command[1:], "--artifacts-destination", str(tmp_path / "kept")],
        env=clone.environment | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        cwd=tmp_path,
    )
    clone.variables["MLFLOW_TRACKING_URI"] = address
    try:
        assert wait_for(f"{address}/health")
        said = clone.type(f"python train.py model=deep_cnn {SHORT}", shows=f"{address}/#/experiments/")
        run_id = run_id_in(said)
        clone.type(f"python evaluate.py run={run_id[:8]}", shows="test/acc")
        draw_digit(clone.folder / "scan.png")
        clone.type("python predict.py run=best image=scan.png", shows="scan.png")
        clone.type("python register.py run=best dataset=digits", shows="models:/digits@champion")
        clone.type("python predict.py model=digits@champion image=scan.png", shows="scan.png")
        clone.type(f"python export.py run={run_id} format=state_dict", shows="model.pt")
        clone.type(f"python train.py model=deep_cnn init_from={run_id} {SHORT}")
        clone.type(f"python train.py like={run_id} seed=2 {SHORT}")
        clone.type(f"python diff.py {run_id} last", shows="seed")
        clone.type("make report", shows="deep_cnn")
        clone.type("make ui", shows=address)
        assert not list((clone.folder / "mlruns").glob("mlflow.db"))
    finally:
        server.terminate()
        server.wait(30)
    assert clone.stumbles == []


def test_someone_outside_the_checkout(outside):
    said = outside.type(f"cnnlab train model=deep_cnn {SHORT}", shows="cnnlab ui, then http")
    assert "train.py" not in said and "make" not in said
    assert {item.name for item in outside.folder.iterdir()} == {"mlruns", "outputs"}
    ids = run_id_in(said), run_id_in(outside.type(f"cnnlab train seed=1 {SHORT}"))
    for line in documented("README.md", "cnnlab"):
        if line != "cnnlab ui":
            outside.type(filled(line, *ids))
    doors = {"train", "predict"}  # what was typed already, or needs an image
    for line in documented("README.md", "python"):
        door = line.split()[1].removesuffix(".py")
        if door not in doors and not WITHOUT_DATA.search(line):
            doors.add(door)
            outside.type(filled(line.replace(f"python {door}.py", f"cnnlab {door}"), *ids))
    model = outside.folder / "conf" / "model" / "tiny.yaml"
    model.parent.mkdir(parents=True)
    model.write_text("defaults: [mlp]\n\nname: tiny\nhidden_units: [3]\n")
    outside.type(f"cnnlab train model=tiny {SHORT}", shows="2,355")  # 784 * 3 + 3
    told = outside.type("cnnlab train --help", shows="tiny")
    assert "cnnlab train model=deep_cnn" in told and max(map(len, told.splitlines())) <= 80
    typed = outside.type(f"cnnlab sweep model=tiny search=mlp {SHORT} {SEARCHED}", shows="run it")
    outside.type(f"{re.findall(r'run it +(.*)', typed)[0]} figures.enabled=false")
    devices = "trainer.accelerator=cpu trainer.devices=2 trainer.strategy=ddp figures.enabled=false"
    assert outside.type(f"cnnlab train {devices} trainer.max_epochs=2").count("epoch 2/2") == 1
    outside.type("cnnlab trian", code=2, shows="did you mean 'train'?")
    outside.type("cnnlab train epochs=3", code=2, shows="did you mean 'trainer.max_epochs'?")
    (outside.folder / "scans").mkdir()
    draw_digit(outside.folder / "scans" / "one.png")
    program = python_block("README.md", "from cnnlab import train").replace("n_trials=20", "n_trials=2")
    before = "import numpy as np\nimages = np.zeros((2, 1, 28, 28), np.uint8)\n"
    (outside.folder / "program.py").write_text(before + program + "print('done', model.classify(images))\n")
    outside.type("python program.py", shows="done [")
    assert outside.stumbles == []
