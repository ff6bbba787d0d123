"""Torchvision's networks, adapted to the channels and to small images."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cnnlab.checkpoint import load_saved
from cnnlab.errors import UsageError
from cnnlab.models.published import architectures, published
from cnnlab.networks import adaptation, build_network
from cnnlab.settings.model import TorchVision
from commands import run, settings


def build(arch: str, input_shape=(1, 28, 28), *overrides: str) -> nn.Module:
    made = settings("model=torchvision", f"model.arch={arch}", *overrides)
    return build_network(made.model, made.regularization, input_shape, 10)


@pytest.mark.parametrize(
    ("arch", "first", "stride", "pooled"),
    [
        ("resnet18", "conv1", 1, False),
        ("mobilenet_v3_small", "features.0.0", 1, False),
        ("shufflenet_v2_x0_5", "conv1.0", 1, False),
        ("regnet_y_400mf", "stem.0", 1, False),
        ("squeezenet1_1", "features.0", 2, True),
    ],
)
def test_small_images_are_not_shrunk_at_once_by_the_families_that_are_adapted(arch, first, stride, pooled):
    network = build(arch)
    convolution = network.get_submodule(first)
    assert (convolution.in_channels, convolution.stride) == (1, (stride, stride))
    assert any(isinstance(layer, nn.MaxPool2d) for layer in network.modules()) == pooled


def test_large_images_are_taken_as_torchvision_takes_them():
    network = published("resnet18", (3, 96, 96), 10, dense_dropout=0.0)
    assert network.conv1.kernel_size == (7, 7) and isinstance(network.maxpool, nn.MaxPool2d)
    torch.manual_seed(1)
    ours = published("resnet18", (3, 96, 96), 10, dense_dropout=0.0).state_dict()
    torch.manual_seed(1)
    theirs = __import__("torchvision").models.resnet18(num_classes=10).state_dict()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_densenet_and_dropout_are_adapted_too():
    dense = build("densenet121")
    assert dense.features.conv0.stride == (1, 1) and isinstance(dense.features.pool0, nn.Identity)
    network = build("mobilenet_v2", (3, 32, 32), "regularization.dense_dropout=0.35")
    assert [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)] == [0.35]


@pytest.mark.parametrize(
    ("arch", "line"),
    [
        ("resnet81", "model.arch='resnet81' is unknown; allowed: alexnet, "),
        ("resnet81", "; did you mean 'resnet18'?"),
        ("vgg11", "model.arch='vgg11' does not take images of 1x28x28: "),
        ("vit_b_16", "model.arch='vit_b_16' does not take images of 1x28x28: "),
        ("inception_v3", "model.arch='inception_v3' does not take images of 1x28x28: "),
    ],
)
def test_what_does_not_take_the_images_is_one_line(arch, line):
    with pytest.raises(UsageError) as raised:
        build(arch)
    (told,) = raised.value.problems
    assert line in told and "\n" not in told


def test_only_torchvisions_classifiers_are_known():
    assert {"resnet18", "vit_b_16", "efficientnet_b0"} <= set(architectures())
    assert not {name for name in architectures() if "rcnn" in name or "deeplab" in name}


def test_what_was_adapted_and_what_has_no_place_is_said():
    made = settings("model=torchvision", "regularization=dropout_l2")
    said = adaptation(build("resnet18"), made, (1, 28, 28))
    assert said.startswith("resnet18: first convolution for 1 channels, 3x3 with stride 1 and no max pooling")
    assert said.endswith("regularization: no dropout in this architecture, no conv_dropout; penalties as everywhere")
    assert adaptation(build("resnet18"), settings("model=dnn"), (1, 28, 28)) == ""
    none = settings("model=torchvision", "regularization=none")
    assert "regularization" not in adaptation(build("resnet18"), none, (1, 28, 28))


@pytest.mark.slow
def test_a_run_draws_logs_and_rebuilds_one_by_its_name_alone(tmp_path):
    arch = ("model=torchvision", "model.arch=shufflenet_v2_x0_5", "+trainer.limit_train_batches=4")
    done = run(tmp_path, "train.py", *arch, "trainer.max_epochs=1", "figures.diagram=false")
    assert done.returncode == 0, done.stderr
    assert "shufflenet_v2_x0_5: first convolution for 1 channels" in done.stdout
    (file,) = tmp_path.glob("outputs/*/*/checkpoints/epoch_*.ckpt")
    saved = load_saved(file)
    assert saved.description.model == TorchVision(
        name="shufflenet_v2_x0_5", network="torchvision", arch="shufflenet_v2_x0_5"
    )
    again = run(tmp_path, "evaluate.py", "run=best", "figures.enabled=false")
    assert again.returncode == 0 and "test/acc" in again.stdout


def test_a_file_that_names_an_unknown_architecture_is_refused():
    made = settings("model=torchvision")
    bad = made.model.model_copy(update={"arch": "os.system"})
    with pytest.raises(UsageError, match=r"model\.arch='os.system' is unknown"):
        build_network(bad, made.regularization, (1, 28, 28), 10)
