"""A trained classifier put into MLflow's model registry, under its dataset's name."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from cnnlab import process
from cnnlab.checkpoint import asked_of
from cnnlab.console import show_closing
from cnnlab.errors import UsageError
from cnnlab.job import Job
from cnnlab.settings.commands import unregistrable
from cnnlab.settings.trained import Registration
from cnnlab.start import typed
from cnnlab.tracking import registry
from cnnlab.tracking.find import find_run, open_client
from cnnlab.tracking.registry import MARK, Registered
from cnnlab.tracking.schema import Metric, Tag
from cnnlab.tracking.store import absolute_uri


def register(job: Job) -> Registered:
    """Register the model of `run` and give it the alias; whoever had it loses it.

    `run=best` is the best one on validation. Raises UsageError for a run that is not there or keeps no model.
    """
    process.begin()
    settings = asked_of(Registration, job)
    uri = settings.tracking.uri
    client = open_client(uri)
    names = [group.name if group else None for group in (settings.dataset, settings.model)]
    run = find_run(client, str(settings.run), *names)
    name = settings.name or run.data.tags.get(Tag.DATASET, "")
    if problem := unregistrable("name", name):
        raise UsageError(problem)
    registered = registry.register(uri, run.info.run_id, name, settings.alias)

    reached = run.data.metrics.get(Metric.BEST_VAL_ACCURACY)
    named = f"{name}{MARK}{settings.alias}"
    rows = {
        "registered": registered.describe(),
        "MLflow run": f"{run.info.run_id} ({run.info.run_name})",
        "validation": f"accuracy {reached:.4f}" if reached is not None else "none was held out",
        "load it": f'mlflow.set_tracking_uri("{absolute_uri(uri)}"); mlflow.pyfunc.load_model("{registered.uri}")',
        "serve it": serving(absolute_uri(uri), registered.uri),
        "ask it": f"{typed('predict')} {shlex.quote(f'model={named}')} image=FILE",
    }
    show_closing(rows)
    return registered


def serving(uri: str, model_uri: str) -> str:
    """Return the command that answers questions by HTTP with this environment; MLflow finds its server by PATH."""
    programs = Path(sys.executable).parent
    found = str(programs) in os.environ.get("PATH", "").split(os.pathsep)
    path = "" if found else f"PATH={shlex.quote(str(programs))}:$PATH "
    served = f"mlflow models serve --env-manager local --port 5001 -m {shlex.quote(model_uri)}"
    return f"{path}MLFLOW_TRACKING_URI={shlex.quote(uri)} {served}"
