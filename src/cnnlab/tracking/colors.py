"""One colour for all runs of a setting: MLflow would give each run its own, and different settings the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from cnnlab.tracking.schema import Tag
from cnnlab.tracking.shared_rows import tag_experiment
from cnnlab.tracking.store import locked

if TYPE_CHECKING:
    from mlflow import MlflowClient

GIVEN = "mlflow.cnnlab.settings"  # of an experiment: the digests of its settings, in the order in which they came
MOST = 1000  # of them that are remembered; beyond, a setting has the colour that its digest says
# Okabe and Ito's colours as in the figures, without the yellow that nobody sees on white, then each of them darker.
PALETTE = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    *("#004B76", "#8F3F00", "#00694D", "#8C4A70", "#9A6A00", "#2C7CA8"),
)
QUIET = "#9AA5B1"  # of a trial that was given up


def color_tags(client: MlflowClient, uri: str, experiment_id: str, tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tag with the colour of a run with these tags, the next free one for a setting that is new.

    Nothing for runs that are no results: a sweep has as many settings as trials.
    """
    setting = tags.get(Tag.SETTINGS)
    if setting is None:
        return {}
    known: list[str] = []
    with locked(uri):
        with suppress(ValueError):
            known = list(json.loads(client.get_experiment(experiment_id).tags.get(GIVEN, "[]")))
        if setting not in known and len(known) < MOST:
            known.append(setting)
            tag_experiment(client, experiment_id, GIVEN, json.dumps(known, separators=(",", ":")))
    place = known.index(setting) if setting in known else int(setting, 16)
    return {str(Tag.COLOR): PALETTE[place % len(PALETTE)]}
