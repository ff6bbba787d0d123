"""One optimizer step and one penalty, as Keras computes them, against numbers worked out by hand."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from cnnlab.classifier import Classifier
from cnnlab.data.scaling import Scaling
from cnnlab.descent import optimizer_maker
from cnnlab.networks import build_network
from commands import settings
from keras_recipes import CLASSES, RECIPES, SIDE, batches, weights

RECORDED = json.loads(Path(__file__).with_name("keras_steps.json").read_text())["objectives"]


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
        # step = 3.1622777e-4 * .01 / (3.1622777e-3 + 1e-7) = 9.999684e-4.
        (weight,) = stepped("adam", [0.1])
        assert 1 - weight == pytest.approx(9.999684e-4, rel=1e-7)

    @pytest.mark.parametrize(("placement", "step"), [("keras", 7.597469e-4), ("torch", 9.900990e-4)])
    def test_a_tiny_gradient_tells_the_placements_apart(self, placement, step):
        # Keras: m = 1e-6, v = 1e-13; 3.1622777e-4 * 1e-6 / (3.1622777e-7 + 1e-7) = 7.597469e-4.
        # torch, epsilon after the correction: .001 * 1e-5 / (1e-5 + 1e-7) = 9.900990e-4.
        (weight,) = stepped("adam", [1e-5], f"optimizer.epsilon_placement={placement}")
        assert 1 - weight == pytest.approx(step, rel=1e-6)

    def test_second_step_by_hand(self):
        # m = .9 * .01 - .1 * .2 = -.011; v = .999 * 1e-5 + .001 * .04 = 4.999e-5, its root .007070361;
        # alpha = .001 * sqrt(1 - .998001) / .19 = 2.353177e-4; step = alpha * .011 / (.007070361 + 1e-7).
        first, second = stepped("adam", [0.1, -0.2])
        assert second - first == pytest.approx(2.3531772e-4 * 0.011 / 0.007070461, rel=1e-5)

    @pytest.mark.parametrize("optimizer", ["adam", "adamw"])
    def test_steps_do_not_depend_on_torchs_kernel(self, optimizer):
        gradients = [1e-5, -2e-6, 3e-3]
        fused, plain = (stepped(optimizer, gradients, f"optimizer.fused={fused}") for fused in ("true", "false"))
        assert fused == pytest.approx(plain, rel=1e-12)

    def test_adamw_shrinks_the_weight_by_rate_times_decay(self):
        assert stepped("adamw", [0.0], "optimizer.weight_decay=0.1", start=2.0) == [pytest.approx(1.9998, rel=1e-12)]

    def test_goes_on_from_its_state_where_it_was(self):
        parameters = [nn.Parameter(torch.ones(3)) for _ in range(2)]
        first, second = (optimizer_maker(settings("optimizer=adam").optimizer)([weight]) for weight in parameters)
        for optimizer, weight in ((first, parameters[0]), (second, parameters[1])):
            for number in range(6):
                if optimizer is second and number == 3:  # as a resumed training has it
                    file = io.BytesIO()
                    torch.save(second.state_dict(), file)
                    file.seek(0)
                    optimizer = optimizer_maker(settings("optimizer=adam").optimizer)([weight])
                    optimizer.load_state_dict(torch.load(file, weights_only=True))
                weight.grad = torch.full_like(weight, 1e-6 * (number + 1))
                optimizer.step()
        assert torch.equal(*parameters)


class TestRecipes:
    """Five steps of each published network against Keras itself: record_keras.py says how they were recorded."""

    @staticmethod
    def objectives(name: str, *overrides: str, dtype: torch.dtype = torch.float32) -> list[float]:
        recipe = RECIPES[name]
        penalty = ("regularization=l2", f"regularization.l2={recipe.l2}")
        made = settings(f"model={name}", *penalty, f"optimizer={recipe.optimizer}", *overrides)
        network = build_network(made.model, made.regularization, (1, SIDE, SIDE), CLASSES)
        scaling = Scaling(1)
        scaling.inverse_std.fill_(recipe.scale)
        classifier = Classifier(scaling, network, made.regularization, optimizer_maker(made.optimizer), None, {})
        parameters = list(network.parameters())
        with torch.no_grad():
            for parameter, values in zip(parameters, weights([tuple(item.shape) for item in parameters]), strict=True):
                parameter.copy_(torch.from_numpy(values))
        classifier.to(dtype)
        optimizer = classifier.make_optimizer(parameters)
        found = []
        for images, labels in batches(recipe.batch):
            objective = classifier.objective("train", (torch.from_numpy(images), torch.from_numpy(labels)))
            found.append(float(objective.detach()))
            optimizer.zero_grad()
            objective.backward()
            optimizer.step()
        return found

    @pytest.mark.parametrize("name", RECIPES)
    def test_lose_what_keras_loses(self, name):
        # RMSprop takes its first steps as far for the smallest gradient as for the largest: in float32 a rounding of
        # ours, or of Keras', may show in the fourth digit after four of them.
        dtype = torch.float64 if RECIPES[name].optimizer == "rmsprop" else torch.float32
        assert self.objectives(name, dtype=dtype) == pytest.approx(RECORDED[name], rel=2e-5)

    def test_would_show_epsilon_elsewhere(self):
        away = self.objectives("mlp", "optimizer.epsilon_placement=torch")
        assert away != pytest.approx(RECORDED["mlp"], rel=1e-3)


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
