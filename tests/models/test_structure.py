"""What a network consists of, whoever wrote it."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models import resnet18

from cnnlab.models.structure import MOST, parts


class Tutorial(nn.Module):
    """As beginners write it: one pooling used twice, functions between the layers, a sum, an attention."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.pool, self.bend = nn.MaxPool2d(2), nn.ReLU(inplace=True)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.logits = nn.Linear(4 * 49, 10)

    def forward(self, images):
        images = self.pool(self.bend(self.conv1(images)))
        kept = self.conv2(images)
        kept += images
        images = self.pool(kept)
        tokens = images.flatten(2).transpose(1, 2)
        return self.logits(self.attention(tokens, tokens, tokens)[0].flatten(1))


def test_each_layer_is_met_each_time_it_runs():
    found = parts(Tutorial(), (1, 28, 28))
    assert [(part.name, part.shape, part.again) for part in found] == [
        ("conv1", (4, 28, 28), False),
        ("bend", (4, 28, 28), False),
        ("pool", (4, 14, 14), False),
        ("conv2", (4, 14, 14), False),
        ("pool", (4, 7, 7), True),
        ("attention", (49, 4), False),
        ("logits", (10,), False),
    ]


def test_what_is_computed_between_layers_is_told_even_where_it_is_done_in_place():
    found = parts(Tutorial(), (1, 28, 28))
    assert [part.direct for part in found] == [True, True, True, True, False, False, False]


def test_a_deep_network_is_told_by_its_blocks():
    found = parts(resnet18(num_classes=10), (3, 64, 64))
    names = [part.name for part in found]
    assert names[:5] == ["conv1", "bn1", "relu", "maxpool", "layer1.0"] and names[-2:] == ["avgpool", "fc"]
    assert [part.layers for part in found if type(part.module).__name__ == "BasicBlock"] == [6, 6, 8, 6, 8, 6, 8, 6]


def test_many_layers_in_a_row_are_no_block():
    deep = nn.Sequential(nn.Flatten(), *(nn.Linear(4, 4) for _ in range(MOST)))
    assert len(parts(nn.Sequential(deep), (1, 2, 2))) == MOST + 1


def test_a_network_without_layers_is_one_itself():
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = nn.Parameter(torch.zeros(4, 3))

        def forward(self, images):
            return images.flatten(1) @ self.weights

    assert [(part.name, part.shape) for part in parts(Bare(), (1, 2, 2))] == [("Bare", (3,))]


def test_a_look_leaves_no_hook_and_no_trace():
    network = Tutorial().train()
    state = torch.get_rng_state()
    parts(network, (1, 28, 28))
    assert network.training and not any(
        module._forward_hooks or module._forward_pre_hooks for module in network.modules()
    )
    assert torch.equal(torch.get_rng_state(), state)
