"""Per-class metrics against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch

from cnnlab.metrics import PER_CLASS, Collector, Predictions, class_metrics, metric_names

# True 0 0 0 1 1 2, predicted 0 0 1 1 2 2.
LABELS = torch.tensor([0, 0, 0, 1, 1, 2])
TOLD = torch.tensor([0, 0, 1, 1, 2, 2])


def sure(told: torch.Tensor, classes: int, probability: float) -> torch.Tensor:
    """Return logits that give each told class this probability, and the others the rest in equal parts."""
    rest = (1 - probability) / (classes - 1)
    return torch.full((len(told), classes), rest).scatter(1, told[:, None], probability).log()


@pytest.fixture
def predictions() -> Predictions:
    return Predictions(sure(TOLD, 3, 0.8), LABELS)


def test_confusion_counts_true_classes_down(predictions):
    assert predictions.confusion.tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]


def test_class_metrics(predictions):
    found = class_metrics(predictions, ["cat", "dog", "cow"], "val")
    # precision: 2/2, 1/2, 1/2; recall: 2/3, 1/2, 1/1; f1: 4/5, 1/2, 2/3
    assert found["val/precision/cat"] == pytest.approx(1)
    assert found["val/precision/dog"] == pytest.approx(1 / 2)
    assert found["val/recall/cat"] == pytest.approx(2 / 3)
    assert found["val/recall/cow"] == pytest.approx(1)
    assert found["val/f1/cat"] == pytest.approx(0.8)
    assert found["val/precision"] == pytest.approx(2 / 3)
    assert found["val/recall"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert found["val/f1"] == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)
    # Always 80 % sure, 4 of 6 right: |.8 - .6667|
    assert found["val/calibration_error"] == pytest.approx(0.8 - 4 / 6, abs=1e-5)


def test_a_class_without_images_counts_as_zero():
    found = class_metrics(
        Predictions(sure(torch.tensor([0, 1]), 3, 0.9), torch.tensor([0, 1])), ["a", "b", "c"], "test"
    )
    assert found["test/recall/c"] == found["test/precision/c"] == found["test/f1/c"] == 0


def test_measures_of_each_class_are_worked_out_once(predictions):
    # precision: 2/2, 1/2, 1/2; recall: 2/3, 1/2, 1/1; f1: 4/5, 1/2, 2/3
    assert predictions.class_measures["precision"] == pytest.approx([1, 1 / 2, 1 / 2])
    assert predictions.class_measures["recall"] == pytest.approx([2 / 3, 1 / 2, 1])
    assert predictions.class_measures["f1"] == pytest.approx([4 / 5, 1 / 2, 2 / 3])
    assert predictions.class_measures is predictions.class_measures
    assert list(predictions.class_measures) == list(PER_CLASS)


def test_a_class_without_an_image_or_a_prediction_measures_zero():
    # True 0 0 2, predicted 0 1 1 of four classes: 2 is never predicted, 1 has no image, 3 neither.
    predictions = Predictions(sure(torch.tensor([0, 1, 1]), 4, 0.7), torch.tensor([0, 0, 2]))
    assert predictions.images_per_class == [2, 0, 1, 0]
    assert predictions.class_measures["precision"] == pytest.approx([1, 0, 0, 0])
    assert predictions.class_measures["recall"] == pytest.approx([1 / 2, 0, 0, 0])
    assert predictions.class_measures["f1"] == pytest.approx([2 / 3, 0, 0, 0])


def test_mistakes_come_most_confident_first():
    logits = torch.cat([sure(torch.tensor([1]), 2, p) for p in (0.6, 0.9, 0.7, 0.8)])
    predictions = Predictions(logits, torch.tensor([0, 0, 1, 0]))
    assert predictions.most_confident_mistakes(5).tolist() == [1, 3, 0]
    assert predictions.most_confident_mistakes(2).tolist() == [1, 3]


def test_no_mistakes():
    assert Predictions(sure(LABELS, 3, 0.8), LABELS).most_confident_mistakes(5).tolist() == []


def test_one_image_of_each_class_and_no_more_than_asked():
    labels = torch.tensor([5, 3, 3, 0, 5, 9])
    predictions = Predictions(torch.zeros(6, 10), labels)
    assert predictions.one_of_each_class(10).tolist() == [3, 1, 0, 5]
    assert labels[predictions.one_of_each_class(2)].tolist() == [0, 5]


def test_collector_keeps_the_order_and_starts_again():
    collector = Collector()
    collector.update(torch.tensor([[1.0, 2.0]]), torch.tensor([1]))
    collector.update(torch.tensor([[3.0, 4.0], [5.0, 6.0]]), torch.tensor([0, 1]))
    first = collector.predictions()
    assert first.logits.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert first.labels.tolist() == [1, 0, 1]
    collector.update(torch.tensor([[7.0, 8.0]]), torch.tensor([0]))
    assert collector.predictions().logits.tolist() == [[7, 8]]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["T-shirt/top", "고양이"], ["T-shirt_top", "고양이"]),
        (["a/b", "a:b"], ["a_b", "a_b 1"]),
        (["..", "$%"], ["__", "__ 1"]),
    ],
)
def test_metric_names_are_what_mlflow_takes(names, expected):
    from mlflow.utils.validation import _validate_metric_name

    assert metric_names(names) == expected
    for name in expected:
        _validate_metric_name(f"test/precision/{name}")
