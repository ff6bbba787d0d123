"""A warm start: weights of a run or a file, loaded where they fit, and layers that stay as they are."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import mlflow
import pytest
import torch

from cnnlab import process
from cnnlab.checkpoint import load_saved
from cnnlab.errors import UsageError
from cnnlab.networks import build_network
from cnnlab.plan import Plan, make_plan
from cnnlab.training import fit
from cnnlab.weights import begin, load_weights, weights_in
from commands import loaded, run, settings

SMALL = ("model=simple_cnn", "model.filters=[4,8]", "trainer.max_epochs=1", "figures.enabled=false")
NORMALIZED = ("model=simple_cnn", "model.filters=[4,8]", "model.normalization=batch", "trainer.max_epochs=1")


@pytest.fixture(scope="module")
def saved(trained):
    (file,) = trained.folder.glob("outputs/*/*/checkpoints/epoch_*.ckpt")
    return load_saved(file)


def planned(folder: Path, *overrides: str) -> Plan:
    process.seed(3)
    return make_plan(settings(*overrides), folder, lambda dataset: loaded("digits"))


def state(plan_or_network) -> dict[str, torch.Tensor]:
    network = plan_or_network.classifier.network if isinstance(plan_or_network, Plan) else plan_or_network
    return {name: values.clone() for name, values in network.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> list[str]:
    """Return the names under which both hold equal tensors."""
    return [name for name in first if name in second and torch.equal(first[name], second[name])]


def refusals(*arguments, **keywords) -> list[str]:
    with pytest.raises(UsageError) as raised:
        planned(*arguments, **keywords)
    assert not any("\n" in line for line in raised.value.problems)
    return raised.value.problems


class TestLoading:
    def test_before_the_first_step_the_weights_are_those_of_the_run(self, trained, saved, tmp_path):
        run_id = trained.run.info.run_id
        plan = planned(tmp_path, *SMALL, f"tracking.uri={trained.uri}", f"init_from={run_id[:8]}")
        mine = state(saved.classifier.network)
        assert same(state(plan), mine) == list(mine)
        assert plan.start.run_id == run_id
        (line,) = plan.start.lines
        assert line == f"begins with 6 of 6 tensors of run {run_id} (simple_cnn-dropout_l2-seed0)"

    def test_a_checkpoint_file_and_plain_weights_are_the_same_beginning(self, saved, tmp_path):
        torch.save(saved.classifier.network.state_dict(), tmp_path / "weights (1).pt")
        plans = [
            planned(tmp_path, *SMALL, f"init_from='{file}'") for file in (saved.checkpoint, tmp_path / "weights (1).pt")
        ]
        assert same(state(plans[0]), state(plans[1])) == list(state(plans[0]))
        assert plans[0].start.digest == plans[1].start.digest and plans[0].start.run_id is None

    def test_other_classes_keep_all_but_the_logits(self, saved):
        made = settings(*SMALL)
        network = build_network(made.model, made.regularization, (1, 28, 28), 3)
        drawn = state(network)
        weights = load_weights(str(saved.checkpoint), "")
        start = begin(network, weights, [], "unit")
        mine = state(saved.classifier.network)
        assert same(state(network), mine) == [name for name in mine if "logits" not in name]
        assert same(state(network), drawn)[-2:] == ["layers.logits.weight", "layers.logits.bias"]
        assert start.lines[1:] == (
            "not loaded: logits.weight (10x392 there, 3x392 here), logits.bias (10 there, 3 here)",
        )

    def test_layers_that_only_one_side_has_are_told(self, saved):
        made = settings(*SMALL, "model.filters=[4,8,8]")
        network = build_network(made.model, made.regularization, (1, 28, 28), 10)
        lines = begin(network, load_weights(str(saved.checkpoint), ""), [], "unit").lines
        assert "conv3.weight (not there)" in lines[1]
        other = weights_in({"layers.conv1.weight": torch.ones(4, 1, 2, 2), "tail.weight": torch.ones(2)}, "x", "a file")
        assert begin(network, other, [], "unit").lines[2] == "not in this network: tail.weight"

    def test_pixels_that_were_scaled_otherwise_are_told(self, saved, tmp_path):
        plan = planned(tmp_path, *SMALL, f"init_from='{saved.checkpoint}'", "dataset.scaling=standard")
        assert plan.start.lines[-1] == "they were trained with dataset.scaling=unit; here it is standard"

    def test_where_nothing_fits_it_is_one_line(self, saved, tmp_path):
        (line,) = refusals(tmp_path, *SMALL, "model.filters=[5,6]", f"init_from='{saved.checkpoint}'")
        assert line.startswith("init_from: no weight of ") and "conv1.weight (4x1x2x2 there, 5x1x2x2 here)" in line


class Hostile:
    def __reduce__(self):
        return Path.touch, (Path("trace"),)


class TestFile:
    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"no weights", "cannot be read"),
            (b"", "cannot be read"),
            (pickle.dumps(Hostile()), "cannot be read"),
            ({"state_dict": {"a": 1}}, "holds no weights"),
            ([1, 2], "holds no weights"),
            (torch.ones(3), "holds no weights"),
            ({"layers.conv1.weight": torch.ones(4, 1, 2, 2, dtype=torch.complex64)}, "complex64 there"),
            ({"layers.conv1.weight": torch.ones(4, 1, 2, 2).to_sparse()}, "holds no weights"),
        ],
        ids=["text", "empty", "pickle that calls", "numbers by name", "list", "tensor", "complex", "sparse"],
    )
    def test_a_foreign_or_hostile_file_is_one_line_and_nothing_runs(self, tmp_path, monkeypatch, content, words):
        monkeypatch.chdir(tmp_path)
        if isinstance(content, bytes):
            Path("bad.pt").write_bytes(content)
        else:
            torch.save(content, "bad.pt")
        (line,) = refusals(tmp_path, *SMALL, "init_from=bad.pt")
        assert words in line
        assert not Path("trace").exists()

    def test_a_name_that_is_neither_file_nor_run_is_told(self, trained, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("weights.pt").touch()
        (line,) = refusals(tmp_path, *SMALL, "init_from=best")
        assert line == (
            "init_from=best is not a file and no run's id (6 characters of it or more); the folder holds weights.pt"
        )
        (line,) = refusals(tmp_path, *SMALL, "init_from=abcdef0", f"tracking.uri={trained.uri}")
        assert line.startswith("init_from='abcdef0' is unknown; allowed: a run's id, or a file; ")


class TestFreezing:
    def test_frozen_layers_stay_as_they_are_and_the_others_change(self, tmp_path):
        plan = planned(tmp_path, *NORMALIZED, "freeze=[conv1*,norm1]")
        before = state(plan)
        fit(plan, [])
        kept = same(before, state(plan))
        assert kept and all("conv1" in name or "norm1" in name for name in kept)
        # The statistics too: three buffers, beside the kernel and the two weights of the normalization.
        assert len(kept) == 6
        optimizer = plan.classifier.optimizers(use_pl_optimizer=False)
        assert sum(len(group["params"]) for group in optimizer.param_groups) == len(before) - 6 - 3

    def test_a_layer_or_a_pattern_names_parameters(self, tmp_path):
        plan = planned(tmp_path, *SMALL, "freeze=[conv1,'*.bias']")
        frozen = [name for name, values in plan.classifier.network.named_parameters() if not values.requires_grad]
        assert frozen == ["layers.conv1.weight", "layers.conv1.bias", "layers.conv2.bias", "layers.logits.bias"]
        assert plan.start.lines == (
            "frozen, as they were drawn: 38 of 4,086 parameters: conv1.weight, conv1.bias, conv2.bias, logits.bias",
        )

    def test_a_pattern_that_names_nothing_is_refused_with_the_nearest_name(self, tmp_path):
        first, second = refusals(tmp_path, *SMALL, "freeze=[cnv1,conv1,xyz*]")
        assert first == (
            "freeze='cnv1' names no parameter; there are conv1.weight, conv1.bias, conv2.weight, conv2.bias, "
            "logits.weight, logits.bias; did you mean 'conv1'?"
        )
        assert second.startswith("freeze='xyz*' names no parameter")

    def test_with_everything_frozen_there_is_nothing_to_train(self, tmp_path):
        assert refusals(tmp_path, *SMALL, "freeze=['*']") == ["freeze=[*] leaves no parameter to train"]

    def test_what_was_not_loaded_is_not_frozen(self, tmp_path):
        torch.save({"layers.conv1.weight": torch.ones(4, 1, 2, 2)}, tmp_path / "one.pt")
        (line,) = refusals(tmp_path, *SMALL, f"init_from='{tmp_path}/one.pt'", "freeze=[conv1]")
        assert line == "freeze: conv1.bias would stay as it was drawn, not there"


class TestRecord:
    def test_other_weights_are_another_setting_whatever_they_are_called(self):
        warm, moved = settings(*SMALL, "init_from=a.pt"), settings(*SMALL, "init_from=b.pt")
        cold = settings(*SMALL)
        assert warm.digest("1") == moved.digest("1")
        assert (
            len({warm.digest("1"), warm.digest("2"), cold.digest(), settings(*SMALL, "freeze=[conv1]").digest()}) == 4
        )

    @pytest.mark.slow
    def test_a_run_says_what_it_began_with(self, tmp_path):
        quick = (*SMALL, "tracking.log_model=false")
        assert run(tmp_path, "train.py", *quick).returncode == 0
        client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
        (experiment,) = [item.experiment_id for item in client.search_experiments() if item.name == "digits"]
        (first,) = client.search_runs([experiment])
        done = run(tmp_path, "train.py", *quick, f"init_from={first.info.run_id[:8]}", "freeze=[conv*]")
        assert (done.returncode, done.stderr) == (0, "")
        assert f"begins with 6 of 6 tensors of run {first.info.run_id}" in done.stdout
        assert "frozen: 156 of 4,086 parameters" in done.stdout
        assert re.search(r"^Trainable +3,930$", done.stdout, re.MULTILINE)
        (warm,) = [item for item in client.search_runs([experiment]) if item.info.run_id != first.info.run_id]
        assert warm.data.tags["init.run"] == first.info.run_id
        assert warm.data.tags["init.weights"] == load_weights(first.info.run_id, client.tracking_uri).digest()
        assert warm.data.params["init_from"] == first.info.run_id[:8]
        assert warm.data.tags["settings"] != first.data.tags["settings"]


def test_random_numbers_are_drawn_as_without_a_warm_start(saved, tmp_path):
    cold, warm = planned(tmp_path, *SMALL), None
    after_cold = torch.rand(3)
    warm = planned(tmp_path, *SMALL, f"init_from='{saved.checkpoint}'")
    assert torch.equal(torch.rand(3), after_cold) and warm.classifier is not cold.classifier
