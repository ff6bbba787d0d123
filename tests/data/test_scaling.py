"""The scaling of pixels."""

import pytest
import torch

from cnnlab.data.scaling import Scaling

# Channel 0 holds 0, 10, 20, 30: mean 15, variance (225 + 25 + 25 + 225) / 4 = 125. Channel 1 never varies.
IMAGES = torch.tensor([[[[0, 10]], [[7, 7]]], [[[20, 30]], [[7, 7]]]], dtype=torch.uint8)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("raw", [[0, 10, 20, 30], [7, 7, 7, 7]]),
        ("unit", [[0, 10 / 255, 20 / 255, 30 / 255], [7 / 255] * 4]),
        ("standard", [[-15 / 125**0.5, -5 / 125**0.5, 5 / 125**0.5, 15 / 125**0.5], [0] * 4]),
    ],
)
def test_the_three_kinds(kind, expected, dtype):
    scaled = Scaling.fit(kind, IMAGES)(IMAGES.to(dtype))
    assert scaled.dtype == torch.float32 and scaled.shape == IMAGES.shape
    torch.testing.assert_close(scaled.transpose(0, 1).reshape(2, 4), torch.tensor(expected).float())


def test_standard_gives_mean_0_and_deviation_1_over_many_chunks():
    images = torch.randint(0, 256, (10_000, 3, 5, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    scaled = Scaling.fit("standard", images)(images).double()
    torch.testing.assert_close(scaled.mean((0, 2, 3)), torch.zeros(3).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled.std((0, 2, 3), correction=0), torch.ones(3).double(), atol=1e-5, rtol=0)


def test_a_checkpoint_brings_the_statistics_back():
    fitted = Scaling.fit("standard", IMAGES)
    loaded = Scaling(2)
    loaded.load_state_dict(fitted.state_dict())
    assert torch.equal(loaded(IMAGES), fitted(IMAGES))


def test_channels_last_stays_channels_last():
    images = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    scaling = Scaling.fit("unit", images)
    assert scaling(images).is_contiguous()
    assert scaling(images.contiguous(memory_format=torch.channels_last)).is_contiguous(
        memory_format=torch.channels_last
    )


def test_it_exports_with_any_batch_size():
    scaling = Scaling.fit("standard", IMAGES)
    batch = {0: torch.export.Dim("batch")}
    exported = torch.export.export(scaling, (IMAGES,), dynamic_shapes=(batch,)).module()
    more = IMAGES.repeat(3, 1, 1, 1)
    assert torch.equal(exported(more), scaling(more))
