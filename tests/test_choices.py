"""What `auto` becomes is faster here, is told and kept, and is the same the next time."""

from __future__ import annotations

import json

import mlflow
import pytest
import torch

from cnnlab import calibration, choices, process
from cnnlab.errors import UsageError
from cnnlab.job import compose_job
from cnnlab.kernels import build
from cnnlab.plan import make_plan
from cnnlab.sweeps.order import read_order
from cnnlab.training import fit
from commands import job, run, settings

needs_compiler = pytest.mark.skipif(build.compiler() is None, reason="there is no C++ compiler")
QUICK = ("trainer.max_epochs=1", "+trainer.limit_train_batches=3", "figures.enabled=false")


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """Returns the plan of a training whose measured seconds are remembered in a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def plan(*overrides):
        process.seed(0)
        return make_plan(settings(f"tracking.uri=sqlite:///{tmp_path}/mlflow.db", *overrides), tmp_path)

    return plan


def measuring(monkeypatch, *times: tuple[float, float]) -> list[tuple[float, float]]:
    """Let this be a device with bfloat16 instructions whose steps take such times; return those still to come."""
    coming = list(times)
    monkeypatch.setattr(choices, "has_half", lambda trainer: True)
    monkeypatch.setattr(choices, "FEW", 0)
    monkeypatch.setattr(choices, "measure", lambda asked, data, device: coming.pop(0))
    return coming


@pytest.mark.parametrize(
    ("times", "expected"), [((0.3, 0.2), "bf16-mixed"), ((0.3, 0.29), "32-true"), ((0.004, 0.001), "32-true")]
)
def test_bfloat16_is_chosen_where_it_is_clearly_faster(planned, monkeypatch, times, expected):
    measuring(monkeypatch, times)
    plan = planned()
    assert plan.settings.trainer.precision == expected
    assert plan.trainer.precision == expected
    assert plan.choices[0].startswith(f"precision: {expected}, ")


def test_few_images_are_not_worth_a_measurement(planned, monkeypatch):
    measuring(monkeypatch)
    monkeypatch.setattr(choices, "FEW", 10_000)
    assert planned().choices[0] == "precision: 32-true, since 1437 training images are too few for another to matter"


def test_what_was_measured_is_remembered(planned, monkeypatch):
    left = measuring(monkeypatch, (0.3, 0.2), (0.2, 0.3))
    assert [planned().settings.trainer.precision for _ in range(2)] == ["bf16-mixed"] * 2
    assert len(left) == 1
    assert planned("batch_size=16").settings.trainer.precision == "32-true"  # another step


def test_a_cache_that_cannot_be_read_is_measured_again(planned, monkeypatch):
    measuring(monkeypatch, (0.3, 0.2), (0.2, 0.3))
    planned()
    (calibration.cache_home() / calibration.FILE).write_text("{")
    assert planned().settings.trainer.precision == "32-true"


def test_measuring_changes_no_random_number_and_no_thread(planned, monkeypatch):
    monkeypatch.setattr(choices, "has_half", lambda trainer: False)
    plain = planned("model=dnn").classifier.network.state_dict()
    monkeypatch.setattr(choices, "has_half", lambda trainer: True)
    monkeypatch.setattr(choices, "FEW", 0)
    before = torch.get_num_threads()
    measured = planned("model=dnn", "threads=1").classifier.network.state_dict()
    assert torch.get_num_threads() == before
    assert json.loads((calibration.cache_home() / calibration.FILE).read_text())
    assert all(torch.equal(plain[name], measured[name]) for name in plain)


@needs_compiler
def test_kernels_are_chosen_for_networks_they_know_and_train_them(planned):
    with_kernels = planned("regularization=none", "trainer.precision=32-true", *QUICK)
    assert with_kernels.settings.trainer.compile == "kernels"
    without = planned("regularization=none", "trainer.precision=32-true", "trainer.compile=none", *QUICK)
    losses = []
    for plan in (with_kernels, without):
        process.seed(0)
        fit(plan, [lambda epoch, metrics: losses.append(metrics["train/loss"])])
    assert with_kernels.classifier.network.compiled
    assert losses[: len(losses) // 2] == pytest.approx(losses[len(losses) // 2 :], rel=0.02)
    assert with_kernels.settings.digest() == without.settings.digest()  # the same training, but for the last digits


def test_without_a_compiler_the_training_goes_on_and_says_why(planned, monkeypatch):
    def none():
        raise build.NotBuilt("no C++ compiler was found")

    monkeypatch.setattr(choices, "library", none)
    plan = planned()
    assert plan.settings.trainer.compile == "none"
    assert "no C++ compiler was found" in plan.choices[-1]
    with pytest.raises(UsageError, match=r"trainer\.compile='kernels': no C\+\+ compiler"):
        planned("trainer.compile=kernels")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.compile=graphs", "trainer.accelerator=cpu"], "it is for training on an NVIDIA GPU"),
        (["trainer.compile=kernels", "model=dnn"], "no block of this network"),
        (["trainer.compile=fast"], "trainer.compile='fast'"),
    ],
)
def test_what_is_not_to_be_had_is_refused(planned, overrides, message):
    with pytest.raises(UsageError) as caught:
        planned(*overrides)
    assert len(caught.value.problems) == 1
    assert message in caught.value.problems[0]


def test_a_network_too_deep_is_told_once(planned):
    with pytest.raises(UsageError) as caught:
        planned("model.filters=[16,16,16,16,16,16]")
    assert len(caught.value.problems) == 1


@needs_compiler
def test_a_run_says_and_keeps_what_was_chosen(tmp_path):
    said = run(tmp_path, "train.py", "model=deep_cnn", *QUICK).stdout
    assert "compile: kernels, " in said
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    kept = mlflow.search_runs(search_all_experiments=True, output_format="list")[0]
    assert kept.data.params["trainer.compile"] == "kernels"
    assert kept.data.params["trainer.precision"] in ("32-true", "bf16-mixed")


def test_a_sweep_chooses_once_for_all_its_trials(tmp_path, monkeypatch):
    measuring(monkeypatch, (0.3, 0.2))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    given = ["sweep.name=s", f"tracking.uri=sqlite:///{tmp_path}/mlflow.db", "search=mlp", "model=dnn"]
    order = read_order(job("sweep", tmp_path, *given))
    assert "trainer.precision=bf16-mixed" in order.job.overrides
    assert order.configurations.config.trainer.precision == "bf16-mixed"


@needs_compiler
def test_a_sweep_may_search_filters_that_the_kernels_do_not_know(tmp_path):
    given = ["sweep.name=s", f"tracking.uri=sqlite:///{tmp_path}/mlflow.db", "search={model.filters.0:'choice(4,16)'}"]
    read_order(job("sweep", tmp_path, *given))


def test_recipes_keep_their_authors_precision():
    for name in ("mnist_deep_cnn", "mnist_dnn", "fashion_cnn"):
        assert compose_job("train", [f"experiment={name}"]).config.trainer.precision == "32-true"
