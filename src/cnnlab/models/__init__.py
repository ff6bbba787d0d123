"""Networks as plain `nn.Module`: maths only, no training."""

from cnnlab.models.convnet import ConvNet
from cnnlab.models.layers import kernels
from cnnlab.models.mlp import MLP

__all__ = ["MLP", "ConvNet", "kernels"]
