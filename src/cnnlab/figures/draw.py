"""All pictures of one network and one split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from cnnlab.figures.canvas import lettering
from cnnlab.figures.confusion import draw_confusion
from cnnlab.figures.curves import draw_learning_curves
from cnnlab.figures.diagram import draw_network
from cnnlab.figures.features import draw_feature_maps, draw_filters
from cnnlab.figures.samples import draw_mistakes, draw_samples
from cnnlab.figures.tables import write_classes, write_confusion
from cnnlab.predictions import Predictions
from cnnlab.tracking.history import History


def draw_all(
    folder: Path,
    settings: Mapping[str, Any],
    scaling: nn.Module,
    network: nn.Module,
    class_names: Sequence[str],
    images: Tensor,
    predictions: Predictions,
    split: str,
    history: History,
    best_epoch: int,
) -> list[str]:
    """Draw what `settings` (the `figures` section) ask for into `folder`; return one line for each thing left out.

    `images` are the split's, uint8 [N, C, H, W], in the order of the predictions. An empty history draws no curves.
    """
    channels, height, width = images.shape[1:]
    input_shape = channels, height, width
    folder.mkdir(parents=True, exist_ok=True)
    with lettering(class_names) as (names, notes):
        draw_learning_curves(folder, history, best_epoch, settings["skip_epochs"])
        draw_confusion(folder, predictions, names, split)
        draw_mistakes(folder, images, predictions, names, settings["mistakes"])
        draw_samples(folder, images, predictions, names, settings["samples"])
        draw_filters(folder, network, input_shape)
        sample = int(predictions.one_of_each_class(1)[0])
        title = (
            f"true: {names[int(predictions.labels[sample])]}, predicted: {names[int(predictions.predicted[sample])]}"
        )
        draw_feature_maps(folder, scaling, network, images[sample], title)
    write_confusion(folder, predictions, class_names)
    write_classes(folder, predictions, class_names)
    missing = draw_network(folder, network, input_shape) if settings["diagram"] else None
    return notes + ([missing] if missing else [])
