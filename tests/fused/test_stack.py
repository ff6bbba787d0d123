"""A stack's steps are those of its networks, in float64 to the last digits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnlab.fused.objective import cross_entropy, penalties
from cnnlab.fused.optimizer import Rates, StackedAdam, StackedRMSprop, StackedSGD
from cnnlab.fused.stack import Stack, Unstackable
from cnnlab.models import MLP, ConvNet, ResNet, kernels
from cnnlab.optimizers import SGD, Adam, KerasAdam, KerasAdamW, KerasRMSprop

SHAPE, CLASSES = (1, 8, 8), 10
LAYERS = {"activation": "relu", "conv_dropout": 0.0, "dense_dropout": 0.0, "dense_initializer": "glorot_uniform"}
DENSE = {"hidden_units": [12], "normalization": "batch"}
CONVOLUTIONS = {"kernel_size": 2, "stride": 1, "padding": "same", "pooling": "max", "pool_size": 2}
NETWORKS = {
    "mlp": lambda: MLP(SHAPE, CLASSES, **DENSE, **LAYERS),
    "convnet": lambda: ConvNet(
        SHAPE, CLASSES, filters=[4, 6], conv_initializer="he_normal", **CONVOLUTIONS, **DENSE, **LAYERS
    ),
    "resnet": lambda: ResNet(SHAPE, CLASSES, depth=8, width=4, conv_initializer="he_normal", **LAYERS),
}
ADAM = {"betas": (0.9, 0.999), "eps": 1e-7}
# By name: the project's optimizer of one network, and that of a stack.
OPTIMIZERS = {
    "adam": (
        lambda weights, **own: Adam(weights, eps=1e-7, fused=True, **own),
        lambda *stacked: StackedAdam(*stacked, **ADAM, keras=False, decoupled=False),
    ),
    "keras_adam": (
        lambda weights, **own: KerasAdam(weights, eps=1e-7, **own),
        lambda *stacked: StackedAdam(*stacked, **ADAM, keras=True, decoupled=False),
    ),
    "keras_adamw": (
        lambda weights, **own: KerasAdamW(weights, eps=1e-7, **own),
        lambda *stacked: StackedAdam(*stacked, **ADAM, keras=True, decoupled=True),
    ),
    "sgd": (
        lambda weights, **own: SGD(weights, momentum=0.9, nesterov=True, **own),
        lambda *stacked: StackedSGD(*stacked, momentum=0.9, nesterov=True),
    ),
    "rmsprop": (
        lambda weights, **own: KerasRMSprop(weights, rho=0.9, momentum=0.5, eps=1e-7, **own),
        lambda *stacked: StackedRMSprop(*stacked, rho=0.9, momentum=0.5, eps=1e-7),
    ),
}
RATES = Rates(lr=(1e-2, 3e-3, 1e-3), weight_decay=(0.0, 1e-2, 1e-3), l2=(0.0, 1e-3, 1e-2), l1=(0.0, 0.0, 1e-4))
NO_L1 = Rates(RATES.lr, RATES.weight_decay, RATES.l2, (0.0, 0.0, 0.0))
SMOOTHING = (0.0, 0.1, 0.3)


@pytest.fixture(autouse=True)
def exact():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("kind", "name", "rates", "shared", "fused"),
    [
        *((kind, "keras_adam", RATES, shared, True) for kind in NETWORKS for shared in (True, False)),
        *(("mlp", name, rates, True, True) for name in OPTIMIZERS for rates in (RATES, NO_L1)),
        ("mlp", "keras_adam", RATES, True, False),
        ("mlp", "keras_adamw", RATES, True, False),
    ],
)
def test_a_stack_steps_as_each_of_its_networks(kind, name, rates, shared, fused):
    networks = [NETWORKS[kind]().train() for _ in RATES.lr]
    solo, stacked = OPTIMIZERS[name]
    stack = Stack(networks).train()
    optimizer = stacked(list(stack.parameters()), stack.kernels(), rates)
    if not fused:  # as on a GPU
        optimizer.one_by_one = optimizer.all_at_once
    alone = [
        solo(network.parameters(), lr=rates.lr[place], weight_decay=rates.weight_decay[place])
        for place, network in enumerate(networks)
    ]
    places, smoothing = [0, 1, 2], torch.tensor(SMOOTHING)
    for step in range(6):
        if step == 4:  # the first one ends; the others go on in another order
            places, networks, alone = [2, 1], [networks[2], networks[1]], [alone[2], alone[1]]
            stack.keep(places)
            optimizer.keep(places, list(stack.parameters()))
        images = [torch.rand(8, *SHAPE) for _ in places]
        labels = torch.randint(CLASSES, (8,))
        images = images[:1] * len(places) if shared else images
        objectives = []
        factor = 1 / (1 + step)
        for place, network, own, batch in zip(places, networks, alone, images, strict=True):
            own.param_groups[0]["lr"] = factor * rates.lr[place]
            penalty = rates.l2[place] * sum(weights.square().sum() for weights in kernels(network))
            penalty = penalty + rates.l1[place] * sum(weights.abs().sum() for weights in kernels(network))
            objective = F.cross_entropy(network(batch), labels, label_smoothing=SMOOTHING[place]) + penalty
            own.zero_grad()
            objective.backward()
            own.step()
            objectives.append(objective.detach())
        logits = stack(images[0] if shared else torch.cat(images, 1), shared)
        with torch.no_grad():
            of = smoothing[places].view(-1, 1, 1)
            _, fitted, gradient = cross_entropy(logits, labels, of)
            now = optimizer.rates
            total = fitted + penalties(stack.kernels(), now.l2, now.l1)
        logits.backward(gradient)
        optimizer.step(factor)
        assert torch.allclose(total, torch.stack(objectives), atol=1e-9)
    for place, network in enumerate(networks):
        for key, values in network.state_dict().items():
            assert torch.allclose(stack.state(place)[key], values, atol=1e-9), key


def test_a_layer_that_is_not_known_is_not_stacked():
    networks = [nn.Sequential(nn.Flatten(), nn.LazyLinear(CLASSES)) for _ in range(2)]
    with pytest.raises(Unstackable, match="LazyLinear"):
        Stack(networks)
