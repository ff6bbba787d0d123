"""export.py: files that other programs read, which answer as the checkpoint does."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from cnnlab import exporting
from cnnlab.checkpoint import load_saved
from cnnlab.data.scaling import Scaling
from cnnlab.errors import Incomplete, UsageError, disk_is_full
from cnnlab.formats import FORMATS
from cnnlab.networks import build_network
from cnnlab.portable import Portable, facts_about
from commands import loaded, run, settings

BATCHES = (1, 2, 7)
FULL = Path("/dev/full")
BRANCHING = """
import torch


class Branching(torch.nn.Module):
    def __init__(self, input_shape, classes, conv_dropout, dense_dropout):
        super().__init__()
        self.logits = torch.nn.Linear(784, classes)

    def forward(self, images):
        flat = images.flatten(1)
        return self.logits(flat if flat.mean() > 0.5 else -flat)
"""


@pytest.fixture(scope="module")
def saved(trained):
    (file,) = trained.folder.glob("outputs/*/*/checkpoints/epoch_*.ckpt")
    return load_saved(file)


def written(name: str, model: Portable, shape: tuple[int, int, int], folder: Path) -> Path:
    file = folder / f"model{FORMATS[name].extensions[0]}"
    FORMATS[name].write(model, shape, facts_about(["a", "b"], shape, model.scaling), file)
    return file


@pytest.mark.skipif(not FULL.exists(), reason="Linux' device whose disk is always full")
@pytest.mark.parametrize("name", FORMATS)
def test_a_full_disk_is_known_as_one(name, saved, tmp_path):
    """Torch's own writer of files says of a full disk that it has an unexpected position."""
    model = Portable(saved.classifier.scaling, saved.classifier.network)
    (tmp_path / f"model{FORMATS[name].extensions[0]}").symlink_to(FULL)
    with pytest.raises((OSError, RuntimeError)) as caught:
        written(name, model, saved.input_shape, tmp_path)
    assert disk_is_full(caught.value)


NETWORKS = {
    "residual blocks of odd sizes": ((3, 9, 14), ["model=resnet", "model.depth=8", "model.width=4"]),
    "mlp": ((1, 9, 9), ["model=mlp", "model.hidden_units=[8]"]),
    "mlp with batch normalization": ((3, 8, 8), ["model=mlp", "model.hidden_units=[8]", "model.normalization=batch"]),
    "convnet of odd sizes": ((1, 27, 31), ["model=deep_cnn", "model.filters=[4,8]", "model.kernel_size=2"]),
    "strides and average pooling in colour": (
        (3, 21, 16),
        [
            *(
                "model=convnet",
                "model.filters=[4,8]",
                "model.kernel_size=3",
                "model.stride=[2,1]",
                "model.pool_size=2",
                "model.padding=same",
            ),
            *("model.pooling=average", "model.normalization=batch", "model.activation=gelu"),
        ],
    ),
}


class TestParity:
    @pytest.mark.parametrize("network", NETWORKS)
    def test_onnx_runtime_answers_as_torch_does_whatever_the_batch_size(self, network, tmp_path):
        shape, overrides = NETWORKS[network]
        made = settings(*overrides)
        torch.manual_seed(0)
        scaling = Scaling.fit("standard", torch.randint(0, 200, (20, *shape), dtype=torch.uint8))
        model = Portable(scaling, build_network(made.model, made.regularization, shape, 5))
        for layer in model.modules():  # statistics that a training would have left
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                layer.running_mean.uniform_(-0.5, 0.5)
                layer.running_var.uniform_(0.5, 2)
        session = onnxruntime.InferenceSession(str(written("onnx", model, shape, tmp_path)))
        graph = torch.export.load(written("torch_export", model, shape, tmp_path)).module()
        for size in BATCHES:
            images = torch.randint(0, 256, (size, *shape), dtype=torch.uint8)
            with torch.inference_mode():
                expected = model(images)
                torch.testing.assert_close(graph(images), expected, atol=1e-6, rtol=0)
            (answered,) = session.run(None, {"images": images.numpy()})
            np.testing.assert_allclose(answered, expected.numpy(), atol=1e-5)
            np.testing.assert_allclose(answered.sum(1), 1, atol=1e-5)

    def test_a_file_that_answers_otherwise_is_not_kept(self, saved, tmp_path, monkeypatch):
        monkeypatch.setitem(vars(FORMATS["onnx"]), "read", lambda file, model: lambda images: 1 - model(images))
        with pytest.raises(Incomplete, match="differ from the checkpoint's by"):
            exporting.write(saved, "onnx", tmp_path / "model.onnx")
        assert list(tmp_path.iterdir()) == []


class TestCommand:
    @pytest.mark.parametrize("name", FORMATS)
    def test_the_lines_it_prints_use_the_file(self, trained, saved, tmp_path, name):
        extension = FORMATS[name].extensions[0]
        path = tmp_path / "모델 (1)" / f"it's{extension}"
        done = run(trained.folder, "export.py", "run=best", f"format={name}", f"path={path}")
        assert (done.returncode, done.stderr) == (0, "")
        assert sorted(item.name for item in path.parent.iterdir()) == [path.name, f"{path.name}.json"]
        facts = json.loads(path.with_name(f"{path.name}.json").read_text(encoding="utf-8"))
        assert facts["class_names"] == [str(digit) for digit in range(10)] and facts["input_shape"] == [1, 28, 28]
        assert facts["scaling"]["inverse_std"] == [pytest.approx(1 / 255)] and facts["run"] == trained.run.info.run_id
        images = loaded("digits").test_images[:5]
        names = {"images": images.numpy() if name == "onnx" else images, "network": saved.classifier.network}
        exec("\n".join(done.stdout.splitlines()[-3:]), names)
        with torch.inference_mode():
            expected = saved.classifier(images).softmax(1)
        if name == "state_dict":
            mine = saved.classifier.network.state_dict()
            assert names["weights"].keys() == mine.keys()
            assert all(torch.equal(names["weights"][key], mine[key]) for key in mine)
        else:
            np.testing.assert_allclose(np.asarray(names["probabilities"].tolist()), expected.numpy(), atol=1e-5)

    def test_the_class_names_are_in_the_files_themselves(self, saved, tmp_path):
        exporting.write(saved, "onnx", tmp_path / "model.onnx")
        kept = onnxruntime.InferenceSession(str(tmp_path / "model.onnx")).get_modelmeta().custom_metadata_map
        assert json.loads(kept["class_names"]) == list(saved.class_names)
        exporting.write(saved, "torch_export", tmp_path / "model.pt2")
        said = {"cnnlab.json": ""}
        torch.export.load(str(tmp_path / "model.pt2"), extra_files=said)
        assert json.loads(said["cnnlab.json"])["class_names"] == list(saved.class_names)

    def test_mistakes_are_told_together_before_anything_is_written(self, trained):
        before = sorted(trained.folder.rglob("*"))
        done = run(trained.folder, "export.py", "run=best", "checkpoint=x.ckpt", "format=onx")
        assert done.returncode == 2
        assert done.stderr.splitlines() == [
            "error: format='onx' is unknown; allowed: onnx, torch_export, state_dict; did you mean 'onnx'?"
        ]
        assert sorted(trained.folder.rglob("*")) == before


class TestTarget:
    def refusals(self, target: Path, *, overwrite: bool = False) -> list[str]:
        return exporting.check_target(target, FORMATS["onnx"], overwrite=overwrite)

    def test_a_file_that_is_there_is_replaced_only_if_asked(self, saved, tmp_path):
        target = tmp_path / "model.onnx"
        target.write_text("mine")
        (line,) = self.refusals(target)
        assert line == f"path='{target}': model.onnx is there already; overwrite=true replaces it"
        assert self.refusals(target, overwrite=True) == []
        exporting.write(saved, "onnx", target)
        assert target.stat().st_size > 100
        target.unlink()
        assert "model.onnx.json is there already" in self.refusals(target)[0]

    def test_another_ending_a_folder_and_a_place_that_is_none_are_refused(self, tmp_path):
        assert self.refusals(tmp_path / "model.pt2") == [f"path='{tmp_path / 'model.pt2'}' must end in .onnx"]
        (tmp_path / "folder.onnx").mkdir()
        assert "is a folder" in self.refusals(tmp_path / "folder.onnx", overwrite=True)[0]
        (tmp_path / "file").touch()
        assert "cannot write to" in self.refusals(tmp_path / "file" / "model.onnx")[0]

    def test_missing_packages_are_told_with_the_command_that_installs_them(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "onnxscript", None)
        (line,) = exporting.check_packages("onnx", FORMATS["onnx"])
        assert line == "format=onnx needs onnxscript: pip install 'cnnlab[export]'"
        assert exporting.check_packages("state_dict", FORMATS["state_dict"]) == []


@pytest.mark.slow
def test_a_network_without_a_graph_trains_and_only_its_weights_are_exported(tmp_path):
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "branching.py").write_text(BRANCHING)
    (tmp_path / "conf" / "model" / "branching.yaml").write_text("name: branching\n_target_: branching.Branching\n")
    mine = ("--config-dir", "conf", "model=branching")
    quick = ("trainer.max_epochs=1", "figures.enabled=false")
    done = run(tmp_path, "train.py", *mine, *quick, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "the model is not in MLflow, its checkpoint is: this network cannot be exported" in done.stdout
    done = run(tmp_path, "export.py", *mine, "run=best", "path=a.onnx", PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: format=onnx: this network cannot") and "format=state_dict" in line
    assert not list(tmp_path.glob("*.onnx*")) and not list(tmp_path.glob(".exporting*"))
    done = run(tmp_path, "export.py", *mine, "run=best", "path=a.pt", "format=state_dict", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr


def test_a_checkpoint_that_is_no_run_is_exported_too(trained, saved, tmp_path):
    done = run(tmp_path, "export.py", f"checkpoint={saved.checkpoint}", "format=state_dict")
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("outputs/*/*/model.pt")
    assert torch.load(file, weights_only=True).keys() == saved.classifier.network.state_dict().keys()


def test_what_cannot_be_exported_is_one_line():
    with pytest.raises(UsageError) as raised:
        written("onnx", Portable(nn.Identity(), Failing()), (1, 4, 4), Path("nowhere"))
    assert len(raised.value.problems) == 1 and "\n" not in raised.value.problems[0]


class Failing(nn.Module):
    def forward(self, images):
        raise RuntimeError("two\nlines")


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError) as raised:
        exporting.folder_beside(tmp_path / "file" / "w.pt")
    (line,) = raised.value.problems
    assert "cannot write to" in line and line.endswith("; choose another folder")
