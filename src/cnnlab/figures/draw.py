"""All pictures of one network and one split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from cnnlab.data.rows import Images
from cnnlab.figures.canvas import lettering
from cnnlab.figures.confusion import draw_confusion
from cnnlab.figures.curves import draw_learning_curves
from cnnlab.figures.diagram import draw_network
from cnnlab.figures.features import draw_feature_maps, draw_filters
from cnnlab.figures.samples import draw_mistakes, draw_samples
from cnnlab.figures.tables import write_classes, write_confusion
from cnnlab.metrics import Predictions
from cnnlab.settings.commands import Figures
from cnnlab.tracking.history import History


@dataclass(frozen=True, eq=False)
class Subject:
    """What is drawn: a network, a split with what the network says of it, and how it was trained.

    `images` are the split's, uint8 [N, C, H, W], in the order of the predictions, which are None where no split was
    measured. An empty history draws no curves; an ensemble has neither a history nor one network. Every picture
    carries the `signature`, which names the run.
    """

    scaling: nn.Module
    network: nn.Module | None
    class_names: Sequence[str]
    images: Images
    predictions: Predictions | None
    split: str
    history: History
    best_epoch: int
    signature: str = ""


def draw_all(folder: Path, settings: Figures, subject: Subject) -> list[str]:
    """Draw what `settings` ask for into `folder`; return one line for each thing left out."""
    images, predictions, network = subject.images, subject.predictions, subject.network
    channels, height, width = images.shape[1:]
    input_shape = channels, height, width
    folder.mkdir(parents=True, exist_ok=True)
    with lettering(subject.class_names, subject.signature) as (names, notes):
        draw_learning_curves(folder, subject.history, subject.best_epoch, settings.skip_epochs)
        if network is not None:
            draw_filters(folder, network, input_shape)
        if predictions is not None:
            draw_confusion(folder, predictions, names, subject.split)
            draw_mistakes(folder, images, predictions, names, settings.mistakes)
            draw_samples(folder, images, predictions, names, settings.samples)
            sample = int(predictions.one_of_each_class(1)[0])
            true, predicted = names[int(predictions.labels[sample])], names[int(predictions.predicted[sample])]
            title = f"true: {true}, predicted: {predicted}"
            if network is not None:
                draw_feature_maps(folder, subject.scaling, network, images[sample], title)
        if settings.diagram and network is not None:
            draw_network(folder, network, input_shape)
    if predictions is None:
        notes = [*notes, "no pictures of predictions: no split was measured"]
    else:
        write_confusion(folder, predictions, subject.class_names)
        write_classes(folder, predictions, subject.class_names)
    return notes
