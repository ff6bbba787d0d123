"""Plans trained together have the weights and metrics of those trained by themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cnnlab import process
from cnnlab.errors import disk_is_full
from cnnlab.fused.fitting import at_once, obstacle, shape_of
from cnnlab.fused.loop import Member, fit_together
from cnnlab.plan import make_plan
from cnnlab.training import fit
from commands import settings

FULL = Path("/dev/full")
SINGLE = "trainer.precision=32-true"


def planned(tmp_path, *told: str):
    asked = settings(f"tracking.uri=sqlite:///{tmp_path}/mlflow.db", "trainer.max_epochs=1", SINGLE, *told)
    process.seed(asked.seed)
    plan = make_plan(asked, tmp_path)
    plan.trainer.callbacks.remove(plan.checkpoint)
    plan.trainer.callbacks.remove(plan.last)
    return plan


@pytest.mark.parametrize(
    "told",
    [
        ("model=mlp", "model.hidden_units=[32]", "regularization=none"),
        ("model=deep_cnn", "model.filters=[4,6]", "model.normalization=batch", "regularization=none"),
    ],
    ids=lambda told: told[0],
)
def test_each_has_the_weights_and_metrics_it_would_have_by_itself(tmp_path, told):
    each = [("seed=1",), ("seed=2", "optimizer.lr=0.002", "regularization.l2=0.01"), ("seed=1", "optimizer.lr=0.0005")]
    alone, members, seen = [], [], [{}, {}, {}]
    for own in each:
        plan, rows = planned(tmp_path, *told, *own), []
        fit(plan, [lambda epoch, row, rows=rows: rows.append(dict(row))])
        alone.append((plan.classifier.state_dict(), rows[0]))
    for place, own in enumerate(each):
        plan, numbers = planned(tmp_path, *told, *own), torch.get_rng_state()
        ended = []
        see = lambda epoch, row, place=place: seen[place].update(row)  # noqa: E731
        members.append(Member(plan, numbers, see, lambda epoch, row: None, ended.append))
    fit_together(members)
    for member, (weights, row), told_of in zip(members, alone, seen, strict=True):
        kept = member.plan.classifier.state_dict()
        assert kept.keys() == weights.keys()
        for name, values in weights.items():
            assert torch.allclose(kept[name].float(), values.float(), atol=1e-4), name
        timed = {"epoch_seconds", "train/samples_per_second"}
        assert set(told_of) == set(row)
        assert {name: told_of[name] for name in set(row) - timed} == pytest.approx(
            {name: row[name] for name in set(row) - timed}, abs=1e-4
        )


@pytest.mark.skipif(not FULL.exists(), reason="Linux' device whose disk is always full")
def test_a_full_disk_is_known_as_one_when_a_state_is_written(tmp_path):
    plan = planned(tmp_path, "model=mlp", "model.hidden_units=[32]", "regularization=none")
    plan.trainer.callbacks.append(plan.last)
    plan.last.file = tmp_path / "state.ckpt"
    plan.last.file.with_suffix(".part").symlink_to(FULL)
    pruned = Member(plan, torch.get_rng_state(), *[lambda *told: None] * 3, goes_on=lambda: True)
    with pytest.raises((OSError, RuntimeError)) as caught:
        fit_together([pruned])
    assert disk_is_full(caught.value)


def test_what_can_be_one_program_is_known_from_the_settings():
    plain = settings("model=dnn", SINGLE)
    assert shape_of(plain) == shape_of(
        settings("model=dnn", SINGLE, "optimizer.lr=0.1", "seed=3", "regularization.l2=0.1")
    )
    assert shape_of(plain) == shape_of(settings("model=dnn", SINGLE, "regularization.dense_dropout=0.5"))
    for other in ("regularization=none", "batch_size=7", "optimizer=sgd", "model.hidden_units=[8]"):
        assert shape_of(plain) != shape_of(settings("model=dnn", SINGLE, other))
    assert obstacle(plain) is None
    for told, reason in {
        "augmentation=flip": "augmentation=flip",
        "callbacks.ema_decay=0.9": "callbacks.ema_decay=0.9",
        "dataset.balance=weights": "dataset.balance=weights",
        "+trainer.gradient_clip_val=1.0": "trainer.gradient_clip_val",
        "trainer.precision=16-true": "trainer.precision=16-true",
        "freeze=[dense1.weight]": "freeze",
        "model=torchvision": "model.network=torchvision",
    }.items():
        apart = settings(SINGLE, told)
        assert obstacle(apart) == reason
        assert at_once(16, apart) == 1
    assert [at_once(fused, plain) for fused in (None, 1, 4, "auto")] == [1, 1, 4, 16]
    on_cpu = settings("model=deep_cnn", SINGLE, "trainer.accelerator=cpu")
    assert [at_once(fused, on_cpu) for fused in (None, 4, "auto")] == [1, 4, 1]
