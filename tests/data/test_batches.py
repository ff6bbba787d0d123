"""Batches by index: what each epoch and each rank sees."""

import pytest
import torch

from cnnlab.data.batches import Batches
from cnnlab.errors import UsageError

SHAPE = (3, 4, 5)


def make(count=10, batch_size=4, shuffle=True, seed=0, rank=0, world_size=1):
    """Images whose every pixel is the image's number, as its label is."""
    labels = torch.arange(count)
    images = labels.to(torch.uint8).view(-1, 1, 1, 1) + torch.zeros((count, *SHAPE), dtype=torch.uint8)
    return Batches(images, labels, batch_size, shuffle, seed, rank, world_size)


def seen(batches):
    return [labels.tolist() for _, labels in batches]


def flat(batches):
    return [label for labels in seen(batches) for label in labels]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 8, 8), (1, 28, 28), (1, 5, 5)])
def test_images_and_labels_belong_together_in_channels_last(shuffle, shape):
    images = torch.randint(0, 256, (10, *shape), dtype=torch.uint8)
    for pixels, labels in Batches(images, torch.arange(10), 4, shuffle, seed=0):
        assert torch.equal(pixels, images[labels])
        assert pixels.dtype == torch.uint8 and pixels.is_contiguous(memory_format=torch.channels_last)


def test_every_image_once_an_epoch_and_the_last_batch_smaller():
    batches = make()
    assert [len(labels) for labels in seen(batches)] == [4, 4, 2] and len(batches) == 3
    assert sorted(flat(batches)) == list(range(10))
    assert flat(batches) != list(range(10))


def test_the_order_follows_seed_and_epoch_alone():
    one, other = make(count=200), make(count=200)
    epochs = []
    for epoch in range(3):
        one.set_epoch(epoch)
        epochs.append(flat(one))
    other.set_epoch(2)
    torch.rand(7)
    assert flat(other) == epochs[2]
    assert epochs[0] != epochs[1] != epochs[2]
    # With seed + epoch as the generator's seed these two would be equal.
    assert flat(make(count=200, seed=1)) != epochs[1]


def test_iteration_begins_with_the_epoch_set_after_iter():
    batches = make(count=200)
    iterator = iter(batches)
    batches.set_epoch(3)
    late = [label for _, labels in iterator for label in labels.tolist()]
    assert late == flat(batches)


@pytest.mark.parametrize(("count", "world_size"), [(10, 2), (11, 4), (9, 2), (5, 3)])
def test_a_step_of_several_ranks_sees_the_images_of_a_step_of_one(count, world_size):
    ranks = [make(count, rank=rank, world_size=world_size) for rank in range(world_size)]
    alone = seen(make(count))
    assert {len(rank) for rank in ranks} == {len(alone)}
    for step, batch in enumerate(alone):
        shares = [seen(rank)[step] for rank in ranks]
        assert shares == [batch[rank::world_size] for rank in range(world_size)]
        counted = sum(
            rank.weight(step) * sum(share) / max(1, len(share)) for rank, share in zip(ranks, shares, strict=True)
        )
        assert counted / world_size == pytest.approx(sum(batch) / len(batch)), "the mean of weighted means"


def test_a_batch_smaller_than_the_number_of_ranks_is_refused():
    with pytest.raises(UsageError, match="batch_size=2 cannot be shared among 3 devices; allowed: 3 or more"):
        make(9, batch_size=2, world_size=3)


@pytest.mark.parametrize(("count", "world_size"), [(10, 1), (10, 2), (17, 2), (9, 2), (65, 4), (100, 3)])
def test_evaluation_shards_hold_every_image_once_in_as_many_batches(count, world_size):
    ranks = [make(count, shuffle=False, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert [label for rank in ranks for label in flat(rank)] == list(range(count))
    assert len({len(seen(rank)) for rank in ranks} | {len(rank) for rank in ranks}) == 1
    sizes = [len(labels) for rank in ranks for labels in seen(rank)]
    assert min(sizes) >= 1 and max(sizes) <= 4 and max(sizes) - min(sizes) <= 1


def test_evaluation_that_would_leave_a_rank_without_an_image_is_refused():
    with pytest.raises(UsageError, match="cannot share 3 images among 2 devices"):
        make(3, batch_size=1, shuffle=False, world_size=2)
