"""A checkpoint is data: it is rebuilt without importing or calling anything that it names."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
import torch

from cnnlab.checkpoint import load_saved
from cnnlab.errors import UsageError
from cnnlab.settings.trained import Choice
from cnnlab.tracking.store import prepare
from commands import composed, environment, run

OWN = """
import torch


class Thin(torch.nn.Module):
    def __init__(self, input_shape, classes, width, conv_dropout, dense_dropout):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, width), torch.nn.Linear(width, 10))

    def forward(self, images):
        return self.layers(images)
"""


@pytest.fixture(scope="module")
def checkpoint(trained) -> Path:
    (file,) = trained.folder.glob("outputs/*/*/checkpoints/epoch_*.ckpt")
    return file


@pytest.fixture
def content(checkpoint) -> dict:
    return torch.load(checkpoint, weights_only=True)


def refusal(path: Path, content: object | None = None) -> str:
    if content is not None:
        torch.save(content, path)
    with pytest.raises(UsageError) as raised:
        load_saved(path)
    assert not any("\n" in line for line in raised.value.problems)
    return "\n".join(raised.value.problems)


class TestFile:
    def test_a_file_that_is_no_checkpoint_is_refused(self, tmp_path):
        (tmp_path / "text.ckpt").write_text("no checkpoint")
        assert "cannot be read" in refusal(tmp_path / "text.ckpt")
        (tmp_path / "empty.ckpt").touch()
        assert "cannot be read" in refusal(tmp_path / "empty.ckpt")

    def test_a_truncated_checkpoint_is_refused(self, checkpoint, tmp_path):
        (tmp_path / "half.ckpt").write_bytes(checkpoint.read_bytes()[:2000])
        assert "cannot be read" in refusal(tmp_path / "half.ckpt")

    def test_somebody_elses_checkpoint_is_refused(self, tmp_path):
        for other in ({"state_dict": {}}, {"cnnlab": "text"}, [1, 2], torch.zeros(2)):
            assert "not written by cnnlab" in refusal(tmp_path / "other.ckpt", other)

    def test_a_missing_file_names_its_neighbours(self, tmp_path):
        torch.save({}, tmp_path / "epoch_03.ckpt")
        assert refusal(tmp_path / "epoch_04.ckpt").endswith("the folder holds epoch_03.ckpt")

    @pytest.mark.parametrize("key", ["state_dict", "epoch"])
    def test_what_is_missing_is_told(self, content, tmp_path, key):
        del content[key]
        assert "is damaged" in refusal(tmp_path / "a.ckpt", content)

    def test_weights_of_another_shape_are_told(self, content, tmp_path):
        content["state_dict"]["network.layers.logits.weight"] = torch.zeros(3, 3)
        assert "is damaged" in refusal(tmp_path / "a.ckpt", content)

    @pytest.mark.parametrize("units", [10**13, 10**18, 10**30])
    def test_sizes_that_no_memory_holds_are_told(self, content, tmp_path, units):
        content["cnnlab"]["model"] = composed("model=dnn")["model"] | {"hidden_units": [units, 8]}
        line = refusal(tmp_path / "a.ckpt", content)
        assert line.startswith(f"checkpoint={tmp_path / 'a.ckpt'} describes a network that cannot be built: ")

    @pytest.mark.parametrize(
        ("key", "value"), [("epoch", float("inf")), ("epoch", "three"), ("state_dict", {"a\nb": 1}), ("state_dict", [])]
    )
    def test_whatever_is_damaged_is_one_line(self, content, tmp_path, key, value):
        assert "is damaged" in refusal(tmp_path / "a.ckpt", content | {key: value})

    @pytest.mark.parametrize(
        ("key", "value", "words"),
        [
            ("model", {"network": "convent"}, "cnnlab.model.network='convent' is unknown"),
            ("model", "text", "cnnlab.model='text' is not allowed"),
            ("class_names", None, "cnnlab.class_names=null"),
            ("input_shape", [1, 28], "cnnlab.input_shape=[1, 28]"),
            ("format", 99, "cnnlab.format=99"),
        ],
    )
    def test_a_description_that_makes_no_sense_is_told(self, content, tmp_path, key, value, words):
        content["cnnlab"][key] = value
        assert words in refusal(tmp_path / "a.ckpt", content)


class TestCode:
    def test_it_holds_names_and_numbers_and_no_path_to_code(self, content):
        assert content["cnnlab"]["model"]["network"] == "convnet"
        assert "_target_" not in str(content["cnnlab"]) and "cnnlab." not in str(content["cnnlab"])

    @pytest.mark.cold
    @pytest.mark.slow
    def test_loading_imports_nothing_but_cnnlab(self, checkpoint, tmp_path):
        (tmp_path / "stranger.py").write_text("raise SystemExit('imported')")
        script = (
            "import sys; from pathlib import Path; import cnnlab.checkpoint\n"
            "before = set(sys.modules)\n"
            "cnnlab.checkpoint.load_saved(Path(sys.argv[1]))\n"
            "print(sorted(name for name in set(sys.modules) - before if not name.startswith(('torch', 'cnnlab'))))"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, checkpoint], cwd=tmp_path, env=environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "stranger" not in done.stdout and "hydra.utils" not in done.stdout

    @pytest.mark.parametrize("target", ["os.system", "builtins.exec", "subprocess.run", "os.mkdir", "torch.load"])
    def test_code_that_a_file_names_is_refused_and_not_called(self, content, tmp_path, target):
        content["cnnlab"]["model"] = {"name": "x", "_target_": target, "_args_": [str(tmp_path / "trace")]}
        assert f"model._target_='{target}'" in refusal(tmp_path / "bad.ckpt", content)
        assert not (tmp_path / "trace").exists()

    @pytest.mark.parametrize("key", ["dataset", "regularization", "model"])
    def test_code_nested_in_a_section_is_refused_and_not_called(self, content, tmp_path, key):
        trace = tmp_path / "trace"
        content["cnnlab"][key] |= {"extra": {"_target_": "os.mkdir", "_args_": [str(trace)]}}
        assert f"cnnlab.{key}.extra is no setting" in refusal(tmp_path / "bad.ckpt", content)
        assert not trace.exists()

    @pytest.mark.parametrize("door", ["evaluate.py", "predict.py"])
    def test_commands_refuse_it_by_file_and_by_run(self, trained, content, tmp_path, door):
        trace = tmp_path / "trace"
        content["cnnlab"]["model"] = {"name": "x", "_target_": "os.mkdir", "_args_": [str(trace)]}
        torch.save(content, tmp_path / "bad.ckpt")
        uri = f"sqlite:///{tmp_path}/mlflow.db"
        client = mlflow.MlflowClient(uri)
        run_id = client.create_run(prepare(uri, "bad")).info.run_id
        client.log_artifact(run_id, str(tmp_path / "bad.ckpt"), "checkpoints")
        (tmp_path / "x.png").touch()
        image = ["image=x.png"] if door == "predict.py" else []
        for named in ("checkpoint=bad.ckpt", f"run={run_id}"):
            done = run(tmp_path, door, named, f"tracking.uri={uri}", *image)
            assert done.returncode == 2, done.stderr
            (line,) = done.stderr.splitlines()
            assert "model._target_='os.mkdir'" in line
        assert not trace.exists()


class TestOwn:
    def test_a_users_own_network_is_rebuilt_where_the_command_names_it_again(self, tmp_path):
        (tmp_path / "conf" / "model").mkdir(parents=True)
        (tmp_path / "thin.py").write_text(OWN)
        (tmp_path / "conf" / "model" / "thin.yaml").write_text("name: thin\n_target_: thin.Thin\nwidth: 8\n")
        mine = ("--config-dir", "conf", "model=thin")
        quick = ("trainer.max_epochs=1", "figures.enabled=false", "tracking.log_model=false")
        done = run(tmp_path, "train.py", *mine, *quick)
        assert done.returncode == 0, done.stderr
        (file,) = tmp_path.glob("outputs/*/*/checkpoints/epoch_*.ckpt")
        assert "model._target_='thin.Thin'; if you trust" in refusal(file)
        with pytest.raises(UsageError, match=r"model\.width=9, trained with 8"):
            load_saved(file, Choice.model_validate({"name": "thin", "_target_": "thin.Thin", "width": 9}))
        done = run(tmp_path, "evaluate.py", *mine, f"checkpoint={file}", "figures.enabled=false")
        assert done.returncode == 0, done.stderr
        assert "test/acc" in done.stdout


class TestOldFormat:
    """Format 1 kept the whole configuration, and networks by their import path."""

    def old(self, content: dict, target: str) -> dict:
        described = copy.deepcopy(content["cnnlab"])
        model = {key: value for key, value in described["model"].items() if key != "network"} | {"_target_": target}
        config = {"dataset": described["dataset"], "model": model, "regularization": described["regularization"]}
        config |= {"optimizer": {"name": "adam", "_target_": "torch.optim.Adam", "lr": 0.001}, "seed": 0}
        kept = {key: described[key] for key in ("input_shape", "class_names", "border")}
        return content | {"cnnlab": {"config": config, **kept}}

    def test_is_read_through_the_old_names(self, checkpoint, content, tmp_path):
        torch.save(self.old(content, "cnnlab.models.ConvNet"), tmp_path / "old.ckpt")
        old, new = load_saved(tmp_path / "old.ckpt"), load_saved(checkpoint)
        assert old.description == new.description.model_copy(update={"frame": None, "settings": None})
        images = torch.randint(0, 256, (4, 1, 28, 28), dtype=torch.uint8)
        torch.testing.assert_close(old.classifier(images), new.classifier(images), rtol=0, atol=0)

    def test_any_other_target_stays_a_strangers(self, content, tmp_path):
        assert "_target_='os.mkdir'" in refusal(tmp_path / "old.ckpt", self.old(content, "os.mkdir"))
