"""Networks whose training the compiled kernels can take over, in part."""

from __future__ import annotations

from torch import nn

from cnnlab.kernels.build import NotBuilt, library
from cnnlab.models.compiled import KnownBlock, parts
from cnnlab.models.convnet import ConvNet
from cnnlab.models.dropout import Dropout


def knows(network: nn.Module) -> bool:
    """Return whether the compiled kernels know a block of the network."""
    return isinstance(network, ConvNet) and any(isinstance(part, KnownBlock) for part in parts(network.layers))


def use_kernels(network: nn.Module) -> None:
    """Let a network train through the compiled kernels, where it knows of them."""
    if isinstance(network, ConvNet):
        try:
            library()
        except NotBuilt:
            return
        for module in network.modules():
            if isinstance(module, ConvNet | Dropout):
                module.compiled = True
