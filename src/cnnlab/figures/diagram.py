"""A diagram of the network with the shapes between its layers, drawn by torchview and Graphviz."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import torch
from torch import nn

from cnnlab.errors import one_line

NO_DOT = "figures: no network diagram, because Graphviz' program `dot` is not installed (Debian: apt install graphviz)"


def draw_network(folder: Path, network: nn.Module, input_shape: tuple[int, int, int]) -> str | None:
    """Draw the layers and the shapes of what flows between them; returns the line that says why there is no picture.

    The diagram's source is written either way, so that it can be drawn elsewhere: dot -Tpng network.gv -o network.png
    """
    from torchview import draw_graph

    # Without weights: nothing is computed, and the network that goes on living is not touched.
    twin = copy.deepcopy(network).to("meta").eval()
    try:
        blank = torch.zeros(1, *input_shape, device="meta")  # its own input would be drawn at random
        graph = draw_graph(twin, input_data=blank, device="meta", depth=4, expand_nested=False, mode="eval")
    except Exception as error:  # torchview follows a forward pass, and any network may be one it cannot follow
        return f"figures: no network diagram, torchview cannot follow this network ({one_line(error)})"
    drawing = graph.visual_graph
    drawing.attr(dpi="110")
    folder.mkdir(parents=True, exist_ok=True)
    drawing.save(filename="network.gv", directory=folder)
    if shutil.which("dot") is None:
        return NO_DOT
    (folder / "network.png").write_bytes(drawing.pipe(format="png"))
    return None
