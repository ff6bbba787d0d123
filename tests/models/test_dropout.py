import pytest
import torch
from torch import nn

from cnnlab.models.dropout import Dropout


def values(shape=(64, 8, 30, 30), dtype=torch.float32):
    return torch.ones(shape, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_values_are_zeroed_at_the_rate_and_the_others_scaled_to_the_same_mean(rate, dtype):
    torch.manual_seed(0)
    result = Dropout(rate)(values(dtype=dtype))
    kept = result != 0
    # 460,800 values: the standard error of their share is at most .00074.
    assert (~kept).double().mean().item() == pytest.approx(rate, abs=0.003)
    assert result.dtype == dtype
    assert result[kept].unique().double().tolist() == [pytest.approx(1 / (1 - rate), rel=0.004)]


def test_neighbours_fall_independently():
    torch.manual_seed(0)
    dropped = (Dropout(0.5)(values((460_800,))) == 0).double() - 0.5
    for distance in (1, 2, 3, 4, 8):
        correlation = (dropped[:-distance] * dropped[distance:]).mean().item() * 4
        assert abs(correlation) < 0.006, distance


@pytest.mark.parametrize("shape", [(1,), (3, 7), (5, 3, 7, 9), (2, 3, 4, 5, 6)])
def test_the_gradient_is_that_of_the_mask(shape):
    inputs = values(shape).requires_grad_()
    result = Dropout(0.25)(inputs)
    result.sum().backward()
    assert torch.equal(inputs.grad, result.detach())


def test_channels_last_stays_channels_last():
    result = Dropout(0.5)(values().to(memory_format=torch.channels_last))
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_values_with_gaps_are_dropped_too():
    assert 0.4 < (Dropout(0.5)(values()[:, :, ::2]) == 0).double().mean().item() < 0.6


def test_a_seed_repeats_the_mask_and_the_next_call_differs():
    layer = Dropout(0.5)
    torch.manual_seed(3)
    first, second = layer(values()), layer(values())
    torch.manual_seed(3)
    assert torch.equal(layer(values()), first)
    assert not torch.equal(first, second)


def test_rates_at_the_ends_and_evaluation_are_torchs():
    assert torch.equal(Dropout(0.0)(values()), values())
    assert not Dropout(1.0)(values()).any()
    assert torch.equal(Dropout(0.5).eval()(values()), values())
    assert isinstance(Dropout(0.5), nn.Dropout)
