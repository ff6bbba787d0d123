"""MLflow's pages and the report in a real browser, over what trainings leave: what becomes of it is documented nowhere.

Where pictures are asked for (see browser.py), they are of more trainings than the tests need.
"""

from __future__ import annotations

import io
import re
import shutil
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import mlflow
import pytest
from PIL import Image

from browser import PICTURES, Browser, needs_browser, text_of
from cnnlab.report.__main__ import main
from cnnlab.tracking.descriptions import WIDTH
from cnnlab.tracking.registry import register
from cnnlab.tracking.schema import Role, Tag
from commands import ROOT, environment

pytestmark = [needs_browser, pytest.mark.slow]

SWEEP = ["sweep.py", "model=mlp", "search=mlp"]
SMALL = [[*SWEEP, "trainer.max_epochs=1", "sweep.n_trials=2", "sweep.final_seeds=0", "figures.enabled=false"]]
KEPT = ["trainer.max_epochs=12", "callbacks=best_checkpoint"]
SHOWN = [  # the sweep first: of equally good runs the newest comes first
    [*SWEEP, "trainer.max_epochs=8", "sweep.n_trials=12", "sweep.final_seeds=1"],
    ["train.py", "-m", "model=mlp", "seed=0,1", *KEPT],
    ["train.py", "-m", "model=deep_cnn", "seed=0,1", *KEPT],
    ["train.py", "-m", "model=simple_cnn", "regularization=none,dropout_l2", *KEPT],
]
# In the order in which one sees them, whatever theirs in the document, as the title.
ORDER = """<script>
const height = (link) => link.getBoundingClientRect().top;
const seen = [...document.querySelectorAll('[role=row] a[href*="-metrics"]')].sort((a, b) => height(a) - height(b));
document.title = seen.map((link) => link.textContent).join(" ");
</script>"""


def store_in(folder: Path) -> str:
    return f"sqlite:///{folder}/mlruns/mlflow.db"


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory) -> Path:
    """Return a folder with trainings and a sweep."""
    folder = tmp_path_factory.mktemp("pages") / "cnnlab"
    if PICTURES:
        folder.mkdir()
    else:
        shutil.copytree(trained.folder, folder)
    for door in ("train.py", "sweep.py"):  # as in a checkout, where they are typed without a path
        (folder / door).symlink_to(ROOT / door)
    for order in SHOWN if PICTURES else SMALL:
        command = [sys.executable, *order]
        done = subprocess.run(command, cwd=folder, env=environment(LOGNAME="student"), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(folder) -> str:
    """Serve the pages, as `make ui` does; yield their address, the one line that it says."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "cnnlab.tracking.ui", str(port)]
    process = subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
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
def runs(folder) -> list[mlflow.entities.Run]:
    """Return all runs, the best on validation first, which are those of trainings."""
    client = mlflow.MlflowClient(store_in(folder))
    experiments = [item.experiment_id for item in client.search_experiments()]
    return list(client.search_runs(experiments, order_by=["metrics.`best/val/acc` DESC"], max_results=1000))


@pytest.fixture(scope="module")
def best(runs, folder) -> mlflow.entities.Run:
    found = next(item for item in runs if Tag.SETTINGS in item.data.tags)
    # A training this short may end before the machine is looked at.
    mlflow.MlflowClient(store_in(folder)).log_metric(found.info.run_id, "system/cpu_utilization_percentage", 40.0)
    return found


@pytest.fixture(scope="module")
def first_page(pages, browser) -> str:
    """Return what the address opens on that `make ui` prints."""
    return browser.open(pages, picture="leaderboard")


def test_the_first_page_is_the_leaderboard(first_page, best):
    shown = text_of(first_page)
    assert "Traces 0" not in shown and "Model training" in shown
    metrics = best.data.metrics
    columns = re.findall(r'col-id="((?:metrics|tags)\.[^"]+)"', first_page)
    for column in ("metrics.`best/val/acc`", "metrics.`test/acc`", "tags.`model`", "tags.`seed`", "tags.`parameters`"):
        assert column in columns
    named = best.info.run_name, best.data.tags[Tag.MODEL]
    for value in (*named, f"{metrics['best/val/acc']:.7g}", f"{metrics['test/acc']:.7g}"):
        assert value in shown.split("\n"), shown
    assert "Sort: best/val/acc" in shown.replace("\n", " ")


def test_one_click_leads_from_the_best_run_to_the_command_that_repeats_it(first_page, pages, browser, best, tmp_path):
    first, *_ = re.findall(r'href="(#/experiments/\d+/runs/[0-9a-f]{32})', first_page)
    assert first.endswith(best.info.run_id)
    document = browser.open(f"{pages}/{first}", picture="run")
    said = re.sub(r"\s*\\\n\s*", " ", text_of(document))  # a long command stands in several lines
    result = f"test/acc {best.data.metrics['test/acc']:.4f}"
    parts = result, f"python train.py {best.data.tags[Tag.OVERRIDES]}", "Metrics ("
    places = [said.index(part) for part in parts]
    assert places == sorted(places)
    (source,) = re.findall(r'<img src="(get-artifact[^"]+)"', document)
    picture = urllib.request.urlopen(f"{pages}/{source.replace('&amp;', '&')}", timeout=60).read()
    assert Image.open(io.BytesIO(picture)).width == WIDTH
    still = re.sub(r"<script\b.*?</script>", "", document, flags=re.DOTALL)
    (tmp_path / "still.html").write_text(still.replace("</body>", f"{ORDER}</body>"), encoding="utf-8")
    title = re.search(r"<title>(.*?)</title>", browser.open((tmp_path / "still.html").as_uri()))[1].split()
    machine = [name.startswith("system/") for name in title]
    assert True in machine and machine == sorted(machine), "what the run measured is above what the machine did"


def test_the_views_open_from_the_experiments_description(first_page, pages, browser, best):
    links = dict(re.findall(r'href="(#[^"]*viewStateShareKey=(\w+)[^"]*)"', first_page))
    named = {key: f"{pages}/{link.replace('&amp;', '&')}" for link, key in links.items()}
    assert set(named) == {"leaderboard", "means", "curves", "newest"}
    means = text_of(browser.open(named["means"]))
    tags = best.data.tags
    assert f"Group: model: {tags[Tag.MODEL]}, regularization: {tags[Tag.REGULARIZATION]}" in means
    curves = text_of(browser.open(named["curves"], picture="curves"))
    # Two charts of their own; in MLflow's section stay what else training measures.
    assert "Learning curves\n(2)\n" in curves and "\ntrain\n(2)\n" in curves
    newest = text_of(browser.open(named["newest"]))
    assert "Description" in newest and re.search(r"test/acc 0\.\d{4}, test/loss", newest)


def test_a_sweeps_page_begins_with_its_best_trial_and_the_commands(pages, browser, runs):
    (sweep,) = (item for item in runs if item.data.tags.get(Tag.ROLE) == Role.SWEEP)
    address = f"{pages}/#/experiments/{sweep.info.experiment_id}/runs/{sweep.info.run_id}"
    shown = text_of(browser.open(address, picture="sweep"))
    best = f"best is trial {sweep.data.tags[Tag.BEST_TRIAL]}: val/acc"
    places = [shown.index(part) for part in (best, "optimizer.lr=", "python sweep.py", "Metrics (")]
    assert places == sorted(places)


def test_a_models_page_has_what_it_reached_and_on_which_data(pages, browser, folder, best):
    mlflow.set_tracking_uri(store_in(folder))
    models = mlflow.search_logged_models([best.info.experiment_id], output_format="list")
    (model,) = (item for item in models if item.source_run_id == best.info.run_id)
    shown = text_of(browser.open(f"{pages}/#/experiments/{best.info.experiment_id}/models/{model.model_id}"))
    assert best.info.run_name in shown and f'load_model("models:/{model.model_id}")' in shown
    assert "test/acc" in shown.split("\n") and "system/" not in shown
    data = best.inputs.dataset_inputs[0].dataset
    assert f"{data.name} (#{data.digest})" in shown


def test_a_registered_models_page_says_how_to_ask_its_champion(pages, browser, folder, best):
    assert register(store_in(folder), best.info.run_id, "digits").uri == "models:/digits@champion"
    shown = text_of(browser.open(f"{pages}/#/models/digits"))
    assert re.search(r"predict\S* model=digits@champion image=FILE", shown), shown
    assert "Version 1" in shown and best.info.run_name in shown


def test_the_report_of_these_runs_opens_from_its_file(folder, browser, best, monkeypatch):
    monkeypatch.chdir(folder)
    assert main(["--uri", store_in(folder)]) == 0
    shown = text_of(browser.open((folder / "reports" / "report.html").as_uri(), picture="report"))
    assert "The best of each dataset" in shown and f"{best.info.run_id} (seed {best.data.tags[Tag.SEED]})" in shown
