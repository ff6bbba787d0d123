"""A loss of the user's own in place of the cross-entropy."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cnnlab.errors import UsageError
from cnnlab.plan import make_plan
from cnnlab.training import fit
from cnnlab.training import test_best as best_tested
from commands import run, settings

CODE = """
import torch
import torch.nn.functional as F


class Focal:
    def __init__(self, gamma, classes):
        self.gamma, self.classes = gamma, classes

    def __call__(self, logits, labels):
        assert logits.dtype == torch.float32 and logits.shape[1] == self.classes
        wrong = F.cross_entropy(logits, labels, reduction="none")
        return ((1 - (-wrong).exp()) ** self.gamma * wrong).mean()


def margin(logits, labels, margin):
    return F.multi_margin_loss(logits, labels, margin=margin)


def soft(logits, shares):
    assert shares.dim() == 2
    return -(shares * logits.log_softmax(1)).sum(1).mean()


def each(logits, labels):
    return F.cross_entropy(logits, labels, reduction="none")


def constant(logits, labels):
    return torch.zeros(())


def number(logits, labels):
    return 1.0


class Learned(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
"""


@pytest.fixture
def plan(tmp_path, monkeypatch):
    (tmp_path / "loss_code.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    quick = ("model=dnn", "regularization=none", "trainer.max_epochs=2", f"tracking.uri=sqlite:///{tmp_path}/mlflow.db")
    return lambda *overrides: make_plan(settings(*quick, *overrides), tmp_path)


def own(target: str, **arguments: object) -> list[str]:
    target = target if "." in target else f"loss_code.{target}"
    return [f"+loss._target_={target}", *(f"+loss.{key}={value}" for key, value in arguments.items())]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (own("Focal", gamma=0), F.cross_entropy),
        (own("margin", margin=2), lambda logits, labels: F.multi_margin_loss(logits, labels, margin=2)),
        (own("torch.nn.CrossEntropyLoss", label_smoothing=0.3), torch.nn.CrossEntropyLoss(label_smoothing=0.3)),
    ],
)
def test_an_object_of_a_class_or_a_function_is_what_is_minimized(plan, overrides, expected):
    classifier = plan(*overrides).classifier
    images, labels = torch.randint(0, 256, (16, 1, 28, 28), dtype=torch.uint8), torch.arange(16) % 10
    minimized = classifier.objective("train", (images, labels))
    torch.testing.assert_close(minimized, expected(classifier(images), labels))
    means = classifier.sums("train").compute()
    torch.testing.assert_close(means["loss"], F.cross_entropy(classifier(images), labels).double().detach())
    torch.testing.assert_close(means["objective"], minimized.double().detach())


def test_penalties_are_added_to_it(plan):
    classifier = plan(*own("Focal", gamma=2), "regularization.l2=0.1").classifier
    batch = torch.randint(0, 256, (16, 1, 28, 28), dtype=torch.uint8), torch.arange(16) % 10
    minimized = classifier.objective("train", batch)
    torch.testing.assert_close(minimized - classifier.penalty(), classifier.loss(classifier(batch[0]), batch[1]))


def test_it_gets_the_shares_of_the_classes_where_images_are_blended(plan):
    assert plan(*own("soft"), "augmentation=mixup").classifier.loss is not None
    with pytest.raises(UsageError, match="loss: "):
        plan(*own("soft"))
    with pytest.raises(UsageError, match="loss: "):
        plan(*own("margin", margin=1), "augmentation=mixup")


def test_buffers_of_it_are_no_part_of_the_checkpoint(plan):
    weights = "[" + ",".join(["1.0"] * 10) + "]"
    made = plan(*own("torch.nn.CrossEntropyLoss"), "+loss.weight={_target_: torch.tensor, data: " + weights + "}")
    fit(made, [])
    assert 0 < best_tested(made)[0]["test/acc"] <= 1
    assert not [name for name in made.classifier.state_dict() if "loss" in name]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (own("Focal"), "loss: Focal.__init__() missing 1 required positional argument: 'gamma'"),
        (own("margin", marging=1), "loss: margin() got an unexpected keyword argument 'marging'"),
        (
            own("each"),
            "loss._target_='loss_code.each' returns the shape [8]; it takes a tensor of one number, the mean",
        ),
        (own("number"), "loss._target_='loss_code.number' returns float; it takes a tensor of one number"),
        (own("constant"), "loss._target_='loss_code.constant' does not depend on the logits"),
        (own("Learned"), "loss._target_='loss_code.Learned' has parameters (weight), which nothing would train"),
        (own("builtins.object"), "loss._target_='builtins.object' makes a object, which cannot be called"),
        (own("nowhere.Loss"), "No module named 'nowhere'"),
        (["loss.name=focal"], "loss.name='focal' is unknown; allowed: cross_entropy"),
        (
            [*own("Focal", gamma=1), "regularization.label_smoothing=0.1"],
            "regularization.label_smoothing=0.1 belongs to the cross-entropy, but loss._target_='loss_code.Focal'",
        ),
    ],
)
def test_what_is_no_loss_is_one_line_before_training(plan, overrides, words):
    with pytest.raises(UsageError) as raised:
        plan(*overrides)
    (line,) = raised.value.problems
    assert words in line and "\n" not in line


def test_trying_it_leaves_the_random_numbers_as_they_are(plan):
    torch.manual_seed(4)
    plan("augmentation=mixup")
    after = torch.rand(1)
    torch.manual_seed(4)
    plan("augmentation=mixup", *own("soft"))
    assert torch.equal(torch.rand(1), after)


def test_an_evaluation_does_not_pretend_to_know_its_objective(tmp_path):
    (tmp_path / "loss_code.py").write_text(CODE)
    quick = ("model=dnn", "trainer.max_epochs=1", "figures.enabled=false", "tracking.log_model=false")
    done = run(tmp_path, "train.py", *quick, *own("Focal", gamma=2))
    assert done.returncode == 0, done.stderr
    again = run(tmp_path, "evaluate.py", "run=best", "figures.enabled=false")
    assert "test/objective" in done.stdout and "test/loss" in again.stdout
    assert again.returncode == 0 and "test/objective" not in again.stdout


def test_runs_from_before_there_was_a_choice_stay_comparable():
    before = {key: value for key, value in settings().plain().items() if key not in ("loss", "metrics", "loggers")}
    assert settings("metrics=[f1]").digest() == settings().digest() != settings(*own("torch.nn.NLLLoss")).digest()
    assert "loss" not in before
