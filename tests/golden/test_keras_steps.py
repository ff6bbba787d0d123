"""One optimizer step and one penalty, as Keras computes them, against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cnnlab.classifier import Classifier
from cnnlab.data.scaling import Scaling
from cnnlab.descent import optimizer_maker
from commands import settings


def stepped(optimizer: str, gradients: list[float], *overrides: str, start: float = 1.0) -> list[float]:
    """Return the weight after each step along `gradients`, with the shipped optimizer of that name."""
    weight = nn.Parameter(torch.tensor([start], dtype=torch.float64))
    made = optimizer_maker(settings(f"optimizer={optimizer}", *overrides).optimizer)([weight])
    weights = []
    for gradient in gradients:
        weight.grad = torch.full_like(weight, gradient)
        made.step()
        weights.append(weight.item())
    return weights


class TestRMSprop:
    def test_first_two_steps_by_hand(self):
        # velocity = .1 * .2^2 = .004, then .9 * .004 + .1 * .1^2 = .0046; lr .001, epsilon 1e-7 under the root:
        # .001 * .2 / sqrt(.0040001) = .00316223816, .001 * .1 / sqrt(.0046001) = .00147440366
        first, second = stepped("rmsprop", [0.2, -0.1])
        assert 1 - first == pytest.approx(0.00316223813, rel=1e-7)
        assert second - first == pytest.approx(0.00147440358, rel=1e-7)

    def test_a_tiny_gradient_is_damped_as_in_keras_and_not_as_in_torch(self):
        # velocity = .1 * 1e-8 = 1e-9; Keras: .001 * 1e-4 / sqrt(1e-9 + 1e-7) = 1e-7 / 3.178050e-4 = 3.146583e-4.
        # torch, epsilon outside the root: 1e-7 / (3.162278e-5 + 1e-7) = 3.152e-3, ten times as far.
        (weight,) = stepped("rmsprop", [1e-4])
        assert 1 - weight == pytest.approx(3.146584e-4, rel=1e-6)

    def test_momentum_adds_up_increments(self):
        # First increment .00316223813 as above; the second, gradient .2 again: velocity .0076, increment
        # .0002 / sqrt(.0076001) = .00229414; momentum .5 * .00316223813 + .00229414 = .00387526.
        first, second = stepped("rmsprop", [0.2, 0.2], "optimizer.momentum=0.5")
        assert 1 - first == pytest.approx(0.00316223813, rel=1e-7)
        assert first - second == pytest.approx(0.5 * 0.00316223813 + 0.0002 / 0.0076001**0.5, rel=1e-7)

    def test_weight_decay_shrinks_the_weight_by_rate_times_decay(self):
        # 2 * (1 - .001 * .1) = 1.9998, and a gradient of 0 moves nothing.
        assert stepped("rmsprop", [0.0], "optimizer.weight_decay=0.1", start=2.0) == [pytest.approx(1.9998, rel=1e-12)]


class TestAdam:
    def test_first_step_by_hand(self):
        # Keras: m = .01, v = 1e-5, alpha = .001 * sqrt(.001) / .1 = 3.1622777e-4;
        # step = 3.1622777e-4 * .01 / (3.1622777e-3 + 1e-7) = 9.999684e-4. Ours adds epsilon after the correction:
        # .001 * .1 / (.1 + 1e-7) = 9.99999e-4, which differs by 3.1e-5 of itself.
        (weight,) = stepped("adam", [0.1])
        assert 1 - weight == pytest.approx(9.99999e-4, rel=1e-6)
        assert 1 - weight == pytest.approx(9.999684e-4, rel=4e-5)

    def test_second_step_by_hand(self):
        # m = .9 * .01 - .1 * .2 = -.011, corrected by 1 - .81 = .19: -.0578947;
        # v = .999 * 1e-5 + .001 * .04 = 4.999e-5, corrected by 1 - .998001 = .001999: .02500750.
        first, second = stepped("adam", [0.1, -0.2])
        assert second - first == pytest.approx(0.001 * 0.05789474 / 0.15813760, rel=1e-5)


class TestPenalty:
    @pytest.fixture
    def classifier(self) -> Classifier:
        network = nn.Sequential(nn.Conv2d(1, 1, 2), nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(1, 2))
        with torch.no_grad():
            network[0].weight.copy_(torch.tensor([[[[1.0, -2.0], [3.0, 0.5]]]]))
            network[0].bias.fill_(100.0)
            network[3].weight.copy_(torch.tensor([[4.0], [-1.0]]))
            network[3].bias.fill_(100.0)
        regularization = settings("regularization.l2=0.01", "regularization.l1=0.001").regularization
        return Classifier(Scaling(1), network, regularization, torch.optim.SGD, None, {})

    def test_kernels_alone_are_penalized(self, classifier):
        # L2: .01 * (1 + 4 + 9 + .25 + 16 + 1) = .3125. L1: .001 * (1 + 2 + 3 + .5 + 4 + 1) = .0115.
        # Biases of 100 and the normalization's scale of 1 add nothing.
        assert float(classifier.penalty().detach()) == pytest.approx(0.324, rel=1e-6)

    def test_objective_is_cross_entropy_and_penalty(self, classifier):
        # Two equal logits cost ln 2 = .693147 each.
        with torch.no_grad():
            classifier.network[3].weight.zero_()
        batch = torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 1])
        # L2 of the convolution alone: .01 * 14.25; L1: .001 * 6.5.
        objective = classifier.eval().objective("val", batch)
        assert float(objective.detach()) == pytest.approx(0.693147 + 0.1425 + 0.0065, rel=1e-5)
        assert float(classifier.sums("val").compute()["loss"]) == pytest.approx(0.693147, rel=1e-5)
