"""The split into training and validation."""

import numpy as np
import pytest
import torch
from sklearn.model_selection import train_test_split

from cnnlab.data import drawn
from cnnlab.data import split as splitting
from cnnlab.errors import UsageError
from cnnlab.settings.dataset import Validation
from cnnlab.settings.read import read

LABELS = torch.arange(10).repeat(20)


def split(labels, method, fraction, seed):
    values = {"method": method, "fraction": fraction, "seed": seed, "folds": 5, "fold": 0}
    return splitting.split(labels, read(Validation, values, "dataset.validation."))


def test_last_cuts_where_keras_cuts():
    train, validation = split(LABELS, "last", 0.1, 0)
    assert train.tolist() == list(range(180)) and validation.tolist() == list(range(180, 200))
    # floor(11 * 0.9) = 9, so 2 of 11 are held out.
    train, validation = split(torch.zeros(11, dtype=torch.int64), "last", 0.1, 0)
    assert (len(train), len(validation)) == (9, 2)


def test_random_takes_every_class_alike_and_obeys_the_seed():
    train, validation = split(LABELS, "random", 0.2, 42)
    assert sorted(train.tolist() + validation.tolist()) == list(range(200))
    assert torch.bincount(LABELS[validation]).tolist() == [4] * 10
    assert split(LABELS, "random", 0.2, 42)[1].tolist() == validation.tolist()
    assert split(LABELS, "random", 0.2, 0)[1].tolist() != validation.tolist()
    assert train.dtype == validation.dtype == torch.int64


@pytest.mark.parametrize("method", ["random", "last"])
def test_no_fraction_no_validation(method):
    train, validation = split(LABELS, method, 0, 42)
    assert train.tolist() == list(range(200)) and len(validation) == 0 and validation.dtype == torch.int64


def test_all_problems_at_once():
    with pytest.raises(UsageError) as caught:
        split(LABELS, "lats", 2, -1)
    assert [line.split("=")[0] for line in caught.value.problems] == [
        "dataset.validation.method",
        "dataset.validation.fraction",
        "dataset.validation.seed",
    ]
    assert "did you mean 'last'" in caught.value.problems[0]


@pytest.mark.parametrize(
    ("labels", "method", "fraction", "reason"),
    [
        ([0, 0, 0, 1], "random", 0.5, "at least 2 images of every class"),
        ([0, 1] * 10, "random", 0.01, "into 19 and 1, too few for 2 classes"),
        ([0, 1] * 10, "random", 0.96, "into 0 and 20, too few for 2 classes"),
        ([0, 1] * 10, "last", 0.99, "leaves one side empty"),
        ([0] * 10 + [1] * 10, "last", 0.5, "leaves no training image of 1 classes"),
    ],
)
def test_labels_that_cannot_be_divided_so(labels, method, fraction, reason):
    with pytest.raises(UsageError, match=r"^dataset\.validation\.fraction=" + f".*{reason}"):
        split(torch.tensor(labels), method, fraction, 42)


def test_a_random_split_is_scikit_learns():
    random = np.random.default_rng(0)
    for _ in range(50):
        classes = int(random.integers(2, 12))
        drawn_labels = random.choice(classes, random.integers(classes, 300), p=random.dirichlet(np.ones(classes)))
        labels = random.permutation(np.concatenate([np.arange(classes), np.arange(classes), drawn_labels]))
        size, seed = int(random.integers(classes, len(labels) - classes)), int(random.integers(1000))
        _, expected = train_test_split(np.arange(len(labels)), test_size=size, random_state=seed, stratify=labels)
        assert np.flatnonzero(drawn.held_out(labels, size, seed)).tolist() == sorted(expected)
