"""Initializers against their formulas."""

import math

import pytest
import torch

from cnnlab.models.initializers import INITIALIZERS, fans

# A kernel of 3x3 from 64 to 128 channels: fan_in 576, fan_out 1152; 73,728 numbers put the deviation within 1 %.
SHAPE = (128, 64, 3, 3)


def draw(name: str, shape=SHAPE) -> torch.Tensor:
    torch.manual_seed(1)
    kernel = torch.empty(shape)
    INITIALIZERS[name](kernel)
    return kernel


def test_fans_count_the_window():
    assert fans(torch.empty(SHAPE)) == (576, 1152)
    assert fans(torch.empty(10, 3136)) == (3136, 10)


@pytest.mark.parametrize(
    ("name", "deviation"), [("glorot_normal", math.sqrt(2 / 1728)), ("he_normal", math.sqrt(2 / 576))]
)
def test_a_normal_is_cut_at_two_deviations_and_keeps_its_own(name, deviation):
    kernel = draw(name)
    assert kernel.mean().item() == pytest.approx(0, abs=deviation / 50)
    assert kernel.std().item() == pytest.approx(deviation, rel=0.01)
    # The cut lies at 2 / 0.8796 = 2.2737 of the deviation asked for; so many draws come close to it.
    assert 2.26 * deviation < kernel.abs().max().item() <= 2.2738 * deviation


@pytest.mark.parametrize(
    ("name", "limit"), [("glorot_uniform", math.sqrt(6 / 1728)), ("he_uniform", math.sqrt(6 / 576))]
)
def test_a_uniform_fills_its_limits(name, limit):
    kernel = draw(name)
    assert 0.999 * limit < kernel.abs().max().item() <= limit
    assert kernel.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.01)
