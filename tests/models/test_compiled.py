"""Training through the compiled kernels, and without the pixels that no pooling sees, learns the same."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch.nn import functional

from cnnlab.kernels import build
from cnnlab.kernels.blocks import Pooled
from cnnlab.models import ConvNet
from cnnlab.models.dropout import Dropout

OPTIONS = {
    "filters": [16, 32],
    "kernel_size": 2,
    "stride": 1,
    "padding": "same",
    "pooling": "max",
    "pool_size": 2,
    "hidden_units": [],
    "activation": "relu",
    "normalization": "none",
    "conv_initializer": "he_normal",
    "dense_initializer": "glorot_uniform",
    "conv_dropout": 0.0,
    "dense_dropout": 0.0,
}
needs_compiler = pytest.mark.skipif(build.compiler() is None, reason="there is no C++ compiler")


def network(input_shape=(1, 14, 14), **changes) -> ConvNet:
    torch.manual_seed(1)
    made = ConvNet(input_shape, 10, **{**OPTIONS, **changes}).to(memory_format=torch.channels_last)
    for name, values in made.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(values)
    return made


def images(shape=(1, 14, 14), count=6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    pixels = torch.rand(count, *shape, generator=generator).contiguous(memory_format=torch.channels_last)
    return pixels, torch.randint(0, 10, (count,), generator=generator)


def learned(made: ConvNet, batch: tuple[torch.Tensor, torch.Tensor]) -> list[torch.Tensor]:
    """Return the logits of a batch, then the gradients of its loss."""
    logits = made(batch[0].to(next(made.parameters()).dtype))
    loss = functional.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), batch[1])
    return [logits.detach(), *torch.autograd.grad(loss, list(made.parameters()))]


CASES = [
    {},
    {"input_shape": (3, 15, 13), "kernel_size": 3},
    {"input_shape": (1, 9, 11), "kernel_size": [5, 1], "padding": "valid", "pool_size": [2, None]},
    {"input_shape": (1, 15, 15), "normalization": "batch"},
    {"input_shape": (1, 15, 15), "activation": "tanh"},
    {"input_shape": (1, 15, 15), "activation": "gelu"},
    {"input_shape": (1, 15, 15), "pooling": "average"},
    {"input_shape": (1, 17, 17), "pool_size": 3, "stride": [2, 1]},
    {"input_shape": (1, 15, 15), "filters": [20, 32]},
]


@pytest.mark.parametrize("case", CASES)
def test_pixels_that_no_pooling_sees_are_not_computed_and_change_nothing(case):
    """Evaluation computes them, as Keras does; training learns the same without."""
    shape = case.get("input_shape", (1, 14, 14))
    made = network(**case).double()
    whole = copy.deepcopy(made)
    for layer in whole.modules():
        if hasattr(layer, "training_edges"):
            layer.training_edges = layer.edges
    for ours, expected in zip(learned(made, images(shape)), learned(whole, images(shape)), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def test_the_convolution_before_an_odd_pooling_is_smaller_in_training_alone():
    made = network((1, 14, 14))
    sizes = []
    made.layers.conv2.register_forward_hook(lambda layer, given, output: sizes.append(tuple(output.shape[2:])))
    made(images()[0])
    made.eval()(images()[0])
    assert sizes == [(6, 6), (7, 7)]


@needs_compiler
@pytest.mark.parametrize("case", CASES)
def test_the_kernels_compute_what_torch_computes(case):
    shape = case.get("input_shape", (1, 14, 14))
    made = network(**case)
    expected = learned(made, images(shape))
    made.compiled = True
    for ours, theirs in zip(learned(made, images(shape)), expected, strict=True):
        assert float((ours - theirs).norm() / theirs.norm()) < 1e-5


@needs_compiler
def test_the_kernels_are_as_near_to_the_truth_in_bfloat16_as_torch():
    made = network((1, 28, 28), kernel_size=3)
    truth = learned(made, images((1, 28, 28), 64))
    errors = []
    for compiled in (False, True):
        made.compiled = compiled
        with torch.autocast("cpu", torch.bfloat16):
            found = learned(made, images((1, 28, 28), 64))
        errors.append(
            [float((one.float() - other).norm() / other.norm()) for one, other in zip(found, truth, strict=True)]
        )
    assert found[0].dtype == torch.bfloat16
    assert all(ours < 1.5 * theirs + 1e-3 for theirs, ours in zip(*errors, strict=True)), errors


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("size", [(4, 4), (5, 7)])
def test_pooling_is_torchs_to_the_last_bit(dtype, relu, size):
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(-3, 4, (3, 32, *size), generator=generator).to(dtype)  # with many ties
    values[0, 0, 0, 0] = math.nan
    values = values.contiguous(memory_format=torch.channels_last)

    def theirs(given: torch.Tensor) -> torch.Tensor:
        pooled = functional.max_pool2d(given, 2)
        return functional.relu(pooled) if relu else pooled

    gradient = torch.randn(theirs(values).shape, generator=generator).to(dtype)
    results = []
    for function in (theirs, lambda given: Pooled.apply(given, relu)):
        given = values.clone(memory_format=torch.preserve_format).requires_grad_()
        output = function(given)
        output.backward(gradient)
        results.append((output.detach(), given.grad))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0, equal_nan=True)


@needs_compiler
@pytest.mark.parametrize("shape", [(4, 32), (2, 16, 3, 5)])
def test_dropout_is_the_same_in_fewer_passes(shape):
    layer = Dropout(0.3)
    results = []
    for compiled in (False, True):
        layer.compiled = compiled
        torch.manual_seed(3)
        values = torch.arange(1.0, 1 + math.prod(shape)).view(shape)
        if len(shape) == 4:
            values = values.contiguous(memory_format=torch.channels_last)
        values.requires_grad_()
        output = layer(values)
        output.backward(torch.arange(2.0, 2 + math.prod(shape)).view(shape))
        results.append((output.detach(), values.grad))
    assert 0 < int((results[0][0] == 0).sum()) < math.prod(shape) / 2
    torch.testing.assert_close(results[1], results[0], rtol=1e-6, atol=0)


@needs_compiler
def test_the_kernels_do_not_depend_on_the_number_of_threads():
    made = network((3, 15, 13), kernel_size=3, filters=[32])
    made.compiled = True
    before, results = torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        results.append(learned(made, images((3, 15, 13), 7))[1])  # the first convolution's weights
    torch.set_num_threads(before)
    assert results[0].shape == made.layers.conv1.weight.shape
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)


@needs_compiler
def test_frozen_kernels_get_no_gradient_and_those_after_them_theirs():
    made = network()
    made.compiled = True
    made.layers.conv1.weight.requires_grad_(False)
    made.layers.conv1.bias.requires_grad_(False)
    made(images()[0]).sum().backward()
    assert made.layers.conv1.weight.grad is None
    assert float(made.layers.conv2.weight.grad.abs().sum()) > 0


@pytest.fixture
def unbuilt(monkeypatch, tmp_path):
    """A cache of its own, and no library loaded yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    build.library.cache_clear()
    yield tmp_path / "cache" / "cnnlab" / "kernels"
    build.library.cache_clear()


def test_without_a_compiler_the_reason_is_said(unbuilt, monkeypatch):
    monkeypatch.setattr(build, "compiler", lambda: None)
    with pytest.raises(build.NotBuilt, match="no C\\+\\+ compiler"):
        build.library()


def test_a_compiler_that_refuses_leaves_nothing_behind(unbuilt, monkeypatch):
    monkeypatch.setattr(build, "compiler", lambda: "/bin/false")
    with pytest.raises(build.NotBuilt, match="exit code 1"):
        build.library()
    assert [item.name for item in unbuilt.iterdir() if item.name != "lock"] == []


@needs_compiler
def test_a_cache_that_others_can_write_is_not_trusted(unbuilt):
    unbuilt.mkdir(parents=True)
    unbuilt.chmod(0o777)
    with pytest.raises(build.NotBuilt, match="written by others"):
        build.library()


@needs_compiler
def test_the_library_is_built_once(unbuilt, monkeypatch):
    build.library()
    file = next(unbuilt.glob("pooled-*.so"))
    built = file.stat().st_mtime_ns
    build.library.cache_clear()
    build.library()
    assert file.stat().st_mtime_ns == built
