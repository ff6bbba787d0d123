"""dataset.balance: unequal classes, by weights or by drawing."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cnnlab.checkpoint import upgraded
from cnnlab.data.batches import Batches
from cnnlab.errors import UsageError
from cnnlab.losses import fitted
from cnnlab.plan import class_weights, make_plan
from commands import settings

LABELS = torch.tensor([0] * 90 + [1] * 10)


def batches(rank: int = 0, world_size: int = 1) -> Batches:
    return Batches(torch.zeros(100, 1, 4, 4, dtype=torch.uint8), LABELS, 10, True, 3, rank, world_size, balanced=True)


def test_weights_are_n_by_classes_times_images_and_one_in_the_mean():
    weights = class_weights(LABELS, 2)
    assert weights.tolist() == pytest.approx([100 / 180, 100 / 20])
    assert float(weights[LABELS].mean()) == pytest.approx(1)


def test_each_image_counts_by_its_class_in_the_objective():
    logits, labels, weights = torch.randn(6, 2), torch.tensor([0, 0, 1, 0, 1, 0]), torch.tensor([0.5, 3.0])
    plain = F.cross_entropy(logits, labels, reduction="none")
    found = fitted(None, logits, labels, plain.mean(), 0.0, weights)
    assert float(found) == pytest.approx(float((plain * weights[labels]).sum() / 6), rel=1e-6)


def test_only_training_is_weighted_and_its_loss_stays_the_cross_entropy(tmp_path):
    plan = make_plan(settings("model=dnn", "regularization=none", "dataset.balance=weights"), tmp_path)
    classifier = plan.classifier.eval()
    classifier.class_weights = torch.arange(1.0, 11.0)
    batch = plan.data.train_images[:50], plan.data.train_labels[:50]
    with torch.no_grad():
        plain = float(F.cross_entropy(classifier(batch[0]), batch[1]))
    assert classifier.objective("train", batch).item() != pytest.approx(plain, rel=1e-3)
    assert float(classifier.sums("train").compute()["loss"]) == pytest.approx(plain, rel=1e-5)
    assert classifier.objective("test", batch).item() == pytest.approx(plain, rel=1e-5)


def test_the_sampler_draws_both_classes_alike_in_an_epoch_of_the_same_length():
    order = batches().order()
    assert len(order) == 100
    assert 35 <= int(LABELS[order].sum()) <= 65
    assert order.tolist() == batches().order().tolist()
    later = batches()
    later.set_epoch(1)
    assert later.order().tolist() != order.tolist()


def test_the_ranks_share_out_what_was_drawn():
    shares = [[labels for _, labels in batches(rank, 2)] for rank in (0, 1)]
    drawn = torch.cat([torch.stack(pair, dim=1).flatten() for pair in zip(*shares, strict=True)])
    assert drawn.tolist() == LABELS[batches().order()].tolist()


def test_what_was_so_before_there_was_a_choice():
    assert upgraded({"format": 2, "dataset": {"name": "digits"}})["dataset"]["balance"] == "none"
    digests = {settings(f"dataset.balance={name}").digest() for name in ("none", "weights", "sampler")}
    assert len(digests) == 3 and settings().digest() in digests


def test_weights_belong_to_the_cross_entropy():
    with pytest.raises(UsageError, match=r"dataset\.balance='weights' belongs to the cross-entropy"):
        settings("dataset.balance=weights", "+loss._target_=torch.nn.CrossEntropyLoss", "~loss.name")
