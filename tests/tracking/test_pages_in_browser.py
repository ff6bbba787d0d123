"""MLflow's pages in a real browser, over what a training leaves: what they make of it is documented nowhere."""

from __future__ import annotations

import io
import re
import socket
import subprocess
import sys
import urllib.request

import mlflow
import pytest
from PIL import Image

from browser import Browser, needs_browser, text_of
from cnnlab.tracking.descriptions import WIDTH
from commands import environment

pytestmark = [needs_browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def pages(trained) -> str:
    """Serve the pages over a trained run, as `make ui` does; yield their address, the one line that it says."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "cnnlab.tracking.ui", str(port)]
    process = subprocess.Popen(
        command, cwd=trained.folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    address = process.stdout.readline().strip()
    assert address == f"http://127.0.0.1:{port}", process.communicate()
    yield address
    process.terminate()
    said, errors = process.communicate(timeout=60)
    assert (said, errors) == ("", ""), "one address and nothing else, however much was asked"


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Browser:
    return Browser(tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def run(trained):
    return trained.run


def test_the_first_page_is_the_leaderboard(pages, browser, run):
    document = browser.open(pages)
    shown = text_of(document)
    assert "Traces 0" not in shown and "Model training" in shown
    metrics = run.data.metrics
    columns = re.findall(r'col-id="((?:metrics|tags)\.[^"]+)"', document)
    for column in ("metrics.`best/val/acc`", "metrics.`test/acc`", "tags.`model`", "tags.`seed`", "tags.`parameters`"):
        assert column in columns
    for value in (run.info.run_name, f"{metrics['best/val/acc']:.7g}", f"{metrics['test/acc']:.7g}", "simple_cnn"):
        assert value in shown.split("\n"), shown
    assert "Sort: best/val/acc" in shown.replace("\n", " ")


def test_the_views_open_from_the_experiments_description(pages, browser):
    document = browser.open(pages)
    links = dict(re.findall(r'href="(#[^"]*viewStateShareKey=(\w+)[^"]*)"', document))
    named = {key: f"{pages}/{link.replace('&amp;', '&')}" for link, key in links.items()}
    assert set(named) == {"leaderboard", "means", "curves", "newest"}
    means = text_of(browser.open(named["means"]))
    assert "Group: model: simple_cnn, regularization: dropout_l2" in means
    curves = text_of(browser.open(named["curves"]))
    # Two charts of their own; in MLflow's section stay what else training measures.
    assert "Learning curves\n(2)\n" in curves and "\ntrain\n(2)\n" in curves
    newest = text_of(browser.open(named["newest"]))
    assert "Description" in newest and re.search(r"test/acc 0\.\d{4}, test/loss", newest)


def test_a_runs_page_begins_with_result_command_and_curves(pages, browser, run):
    document = browser.open(f"{pages}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}")
    shown = text_of(document)
    accuracy = run.data.metrics["test/acc"]
    first, command, metrics = (
        shown.index(part) for part in (f"test/acc {accuracy:.4f}", "python train.py", "Metrics (")
    )
    assert first < command < metrics
    (source,) = re.findall(r'<img src="(get-artifact[^"]+)"', document)
    picture = urllib.request.urlopen(f"{pages}/{source.replace('&amp;', '&')}", timeout=60).read()
    assert Image.open(io.BytesIO(picture)).width == WIDTH


def test_a_models_page_has_what_it_reached_and_on_which_data(pages, browser, trained, run):
    mlflow.set_tracking_uri(trained.uri)
    (model,) = mlflow.search_logged_models([run.info.experiment_id], output_format="list")
    shown = text_of(browser.open(f"{pages}/#/experiments/{run.info.experiment_id}/models/{model.model_id}"))
    assert run.info.run_name in shown and f'load_model("models:/{model.model_id}")' in shown
    assert "test/acc" in shown.split("\n") and "system/" not in shown
    data = run.inputs.dataset_inputs[0].dataset
    assert f"{data.name} (#{data.digest})" in shown
