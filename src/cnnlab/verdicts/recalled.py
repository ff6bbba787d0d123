"""The predictions of runs that exist: as they kept them or, of older ones, computed again from their checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field

import mlflow
import torch
from mlflow.entities import Run

from cnnlab.checkpoint import load_saved
from cnnlab.console import console
from cnnlab.data.images import ImageData
from cnnlab.data.rows import Images, Rows
from cnnlab.data.split import divide
from cnnlab.errors import UsageError
from cnnlab.evaluation import load_data
from cnnlab.kept_predictions import Kept, predict
from cnnlab.settings.comparing import Comparing
from cnnlab.settings.trained import Choice
from cnnlab.tracking.find import download_checkpoint
from cnnlab.tracking.ledger import Reading, record
from cnnlab.tracking.schema import VALIDATION, Tag
from cnnlab.verdicts.known import data_digest, has_predictions, kept_of, predictions_file

BATCH = 1000  # images at once; changes no prediction beyond its last digits


@dataclass
class Recalled:
    """The predictions of runs, of the split that the metric is of; `data` are the images, once they were needed."""

    client: mlflow.MlflowClient
    asked: Comparing
    data: ImageData | None = None
    lacking: list[str] = field(default_factory=list)  # a line for each run that has none
    found: dict[str, Kept | UsageError] = field(default_factory=dict)

    def __call__(self, run: Run) -> Kept:
        """Return the predictions of a run; raises UsageError, with why, where there are none and can be none."""
        name = run.info.run_id
        if name not in self.found:
            try:
                self.found[name] = self._predictions(run)
            except UsageError as error:
                self.found[name] = error
                self.lacking.append("; ".join(error.problems))
        found = self.found[name]
        if isinstance(found, UsageError):
            raise found
        return found

    def has(self, run: Run) -> bool:
        """Return whether a run has predictions, kept or computed again."""
        try:
            return self(run) is not None
        except UsageError:
            return False

    def _predictions(self, run: Run) -> Kept:
        metric = self.asked.metric
        if has_predictions(self.client, run, metric):
            return kept_of(self.client, run, metric)
        named = f"run {run.info.run_id} ({run.info.run_name}) has kept no {predictions_file(metric)}"
        try:
            kept = self._computed(run)
        except UsageError as error:
            raise UsageError(f"{named}, and it cannot be computed: {'; '.join(error.problems)}") from error
        console.print(f"{named}: computed again from its checkpoint", soft_wrap=True)
        return kept

    def _computed(self, run: Run) -> Kept:
        """Return what the run's checkpoint says today of the images of then; raises UsageError without one of them.

        Nothing is downloaded. Of the test split that is a reading like any other, and the ledger has it.
        """
        images: Images
        validation = self.asked.metric.startswith(VALIDATION)
        saved = load_saved(download_checkpoint(self.client, run), run_id=run.info.run_id)
        dataset = saved.description.dataset
        sealed = validation and dataset.sealed
        data = load_data(saved, Choice(name=dataset.name, download=False), sealed=sealed)  # type: ignore[call-arg]
        tag = run.data.tags.get(Tag.TRAINING_IMAGES) if validation else None
        then, now = (tag, data.training_digest) if tag else (data_digest(run), data.digest)
        if then != now:
            raise UsageError(f"the images of {data.name} are others than then: their digest is {now}, and was {then}")
        if validation:
            places = divide(data, dataset.validation)[1]
            images, labels = Rows(data.train_images, places), data.train_labels[places]
        else:
            places, images, labels = torch.arange(len(data.test_labels)), data.test_images, data.test_labels
            settings = saved.description.settings or run.data.tags.get(Tag.SETTINGS, "")
            reading = Reading("evaluate", data.name, data.digest, data.test_digest, len(labels), settings)
            if said := record(self.asked.tracking.uri, run.info.run_id, reading):
                console.print(said, soft_wrap=True, markup=False)
        self.data = data
        predictions = predict(saved.classifier, images, labels, BATCH)
        return Kept(places.numpy(), labels.numpy(), predictions.logits.numpy())
