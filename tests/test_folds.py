"""K-fold cross-validation: the parts, and how runs and sweeps go over them."""

from __future__ import annotations

import re

import pytest
import torch

from cnnlab.checkpoint import upgraded
from cnnlab.data.split import divide, fold
from cnnlab.errors import UsageError
from cnnlab.report.leaderboard import make_rows
from cnnlab.report.read import read_store
from cnnlab.settings.dataset import Validation
from cnnlab.settings.read import read
from commands import composed, loaded, run, settings

FOLDS = "dataset.validation.method=fold"


def validation(**changes: object) -> Validation:
    values = composed(FOLDS)["dataset"]["validation"] | changes
    return read(Validation, values, "dataset.validation.")


def test_the_folds_are_disjoint_cover_all_images_and_take_every_class_alike():
    data = loaded("digits")
    parts = [divide(data, validation(fold=number)) for number in range(5)]
    held_out = torch.cat([part for _, part in parts])
    assert held_out.sort().values.tolist() == list(range(1437))
    whole = torch.bincount(data.train_labels) / 5
    for train, part in parts:
        assert sorted(train.tolist() + part.tolist()) == list(range(1437))
        assert ((torch.bincount(data.train_labels[part]) - whole).abs() < 1).all()
        assert part.tolist() == sorted(part.tolist())


def test_the_seed_of_the_split_makes_the_folds_and_nothing_else_does():
    labels = torch.arange(10).repeat(20)
    assert fold(labels, validation())[1].tolist() == fold(labels, validation(fraction=0.0))[1].tolist()
    assert fold(labels, validation())[1].tolist() != fold(labels, validation(seed=1))[1].tolist()


def test_copies_of_an_image_are_in_one_fold():
    labels = torch.arange(2).repeat(30)
    keys = [f"image {place // 6}, {label}" for place, label in enumerate(labels.tolist())]  # three copies of each
    parts = [fold(labels, validation(folds=3, fold=number), keys)[1] for number in range(3)]
    found = [{keys[place] for place in part} for part in parts]
    assert set.union(*found) == set(keys) and sum(map(len, found)) == len(set(keys))


def test_what_cannot_be_folded_is_one_line():
    with pytest.raises(UsageError, match=r"folds=5 needs as many images of every class, and one class has 3"):
        fold(torch.tensor([0] * 9 + [1] * 3), validation())
    with pytest.raises(UsageError, match=r"dataset\.validation\.fold=5.*0 to 4, as dataset\.validation\.folds=5"):
        settings(FOLDS, "dataset.validation.fold=5")
    data = loaded("digits")
    object.__setattr__(data, "own_validation", 100)
    with pytest.raises(UsageError, match="brings a validation split of its own"):
        divide(data, validation())


def test_folds_are_one_setting_and_the_number_of_them_is_not():
    first, second = (settings(FOLDS, f"dataset.validation.fold={number}") for number in (0, 3))
    assert first.digest() == second.digest()
    others = {settings().digest(), settings(FOLDS, "dataset.validation.folds=4").digest()}
    assert first.digest() not in others and len(others) == 2
    assert first.dataset.validation.held_out and settings(FOLDS, "dataset.validation.fraction=0")


def test_checkpoints_from_before_there_were_folds_are_read():
    old = {"format": 2, "dataset": {"name": "digits", "validation": {"method": "random"}}}
    assert upgraded(old)["dataset"]["validation"] == {"method": "random", "folds": 5, "fold": 0}


def test_a_multirun_over_the_folds_is_one_row(tmp_path):
    small = ("model=dnn", "model.hidden_units=[8]", "trainer.max_epochs=1", "tracking.log_model=false")
    done = run(tmp_path, "train.py", "-m", *small, "figures.enabled=false", FOLDS, "dataset.validation.fold=0,1")
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"digits: 114\d training, 28\d validation", done.stdout)) == 2
    (row,) = make_rows(read_store(f"sqlite:///{tmp_path}/mlruns/mlflow.db").runs)
    assert (row.seeds, row.folds, row.trainings) == (("0",), ("0", "1"), "2 folds")
    assert len(row.validation_accuracy.values) == 2
    assert row.command.endswith(f"{FOLDS} dataset.validation.fold=0,1 seed=0") and " -m " in row.command


@pytest.mark.slow
def test_a_trial_trains_once_on_each_fold(tmp_path):
    quick = ("model=dnn", "model.hidden_units=[8]", "trainer.max_epochs=1", "tracking.log_model=false", "pruner=none")
    search = ("search=none", '+search.batch_size="choice(32, 64)"', "sweep.n_trials=1", "sweep.final_seeds=0")
    folds = (FOLDS, "dataset.validation.folds=3", "sweep.folds=true")
    done = run(tmp_path, "sweep.py", *quick, *search, *folds, "figures.enabled=false")
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("outputs/*/*/trials.csv")
    head, row = file.read_text().splitlines()
    assert "measured seeds" in head and row.split('"')[1].count(",") == 2, "three values, a fold each"
    refused = run(tmp_path, "sweep.py", *quick, *search, "sweep.folds=true", "sweep.name=other")
    assert refused.returncode == 2 and "sweep.folds=true needs dataset.validation.method=fold" in refused.stderr
