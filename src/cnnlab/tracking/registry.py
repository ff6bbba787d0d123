"""MLflow's model registry: the registered models, one a dataset, and which of their versions is the champion."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from cnnlab.errors import UsageError, hidden, shown, unknown
from cnnlab.start import typed
from cnnlab.tracking.descriptions import code, command
from cnnlab.tracking.schema import Metric
from cnnlab.tracking.store import connect, locked, told_errors

if TYPE_CHECKING:
    from mlflow.entities.model_registry import RegisteredModel

CHAMPION = "champion"
MARK = "@"  # between the name of a registered model and an alias; no run's id holds one
ENOUGH = 1000  # registered models that are looked through for a mistyped name


@dataclass(frozen=True)
class Registered:
    """A version of a registered model, made of a run.

    `alias` is None where another version keeps it, for the `reason`; `before` is the version that had it until now.
    """

    name: str
    version: str
    run_id: str
    alias: str | None
    before: str | None
    reason: str = ""

    @property
    def uri(self) -> str:
        """Where MLflow loads it from."""
        return f"models:/{self.name}{MARK}{self.alias}" if self.alias else f"models:/{self.name}/{self.version}"

    def describe(self) -> str:
        """Return what became of it, in one line."""
        replaced = f", in place of version {self.before}" if self.alias and self.before else ""
        return f"{self.name} version {self.version}: {self.uri}{replaced}" + (f"; {self.reason}" if self.reason else "")


def register(uri: str, run_id: str, name: str, alias: str = CHAMPION, *, contest: bool = False) -> Registered:
    """Make a run's model a version of the registered model `name`, and give it the alias.

    In a `contest` the version that has the alias keeps it, unless the run is better on validation, as `run=best` has
    it: the test split selects nothing. A run that is registered already keeps its version. Raises UsageError for a run
    that keeps no model, and for a store that does not take it.
    """
    with told_errors(uri), locked(uri), _connected(uri):
        client = mlflow.MlflowClient(uri)
        run = client.get_run(run_id)
        model_id = model_of(run)
        aliases = (_registered_model(client, name) or _create(client, name, alias)).aliases
        before = str(aliases[alias]) if alias in aliases else None
        version = _version_of(client, name, run) or _add_version(client, name, run, model_id)
        before = None if before == version else before
        reason = _defense(client, name, before, alias, run) if contest and before else ""
        if not reason:
            client.set_registered_model_alias(name, alias, version)
    return Registered(name, version, run.info.run_id, None if reason else alias, before, reason)


def register_best(uri: str, run_ids: Sequence[str], name: str) -> Registered:
    """Let the run that is the best on validation, of several, compete for the champion."""
    with told_errors(uri):
        client = mlflow.MlflowClient(uri)
        runs = [client.get_run(run_id) for run_id in run_ids]
    best = max(runs, key=lambda run: _on_validation(run) or (0.0, 0.0))
    return register(uri, best.info.run_id, name, contest=True)


def registered_run(client: mlflow.MlflowClient, wanted: str, key: str = "run") -> Run:
    """Return the run whose model has the alias that `wanted`, such as mnist@champion, names.

    Raises UsageError, naming the setting `key`, where there is none.
    """
    name, _, alias = wanted.rpartition(MARK)
    model = _registered_model(client, name)
    if model is None or alias not in model.aliases:
        models = client.search_registered_models(max_results=ENOUGH)
        known = [f"{one.name}{MARK}{own}" for one in models for own in one.aliases]
        first = f"no model is registered yet; {typed('register')} run=best dataset=NAME registers one"
        raise UsageError(unknown(key, wanted, known) if known else f"{key}={shown(wanted)}: {first}")
    version = client.get_model_version(name, str(model.aliases[alias]))
    try:
        return client.get_run(version.run_id or "")
    except MlflowException as error:
        raise UsageError(
            f"{key}={shown(wanted)}: the run of version {version.version} is not in this store; "
            f"mlflow.pyfunc.load_model('models:/{wanted}') loads its model"
        ) from error


def model_of(run: Run) -> str:
    """Return the id of the model that a run keeps in MLflow; raises UsageError where it keeps none."""
    outputs = run.outputs.model_outputs if run.outputs else []
    if not outputs:
        raise UsageError(
            f"run={run.info.run_id} ({run.info.run_name}, {run.info.status}) keeps no model in MLflow: a trial, "
            "or trained with tracking.log_model=false; like=RUN_ID tracking.log_model=true trains it again"
        )
    return str(outputs[-1].model_id)


def _registered_model(client: mlflow.MlflowClient, name: str) -> RegisteredModel | None:
    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _create(client: mlflow.MlflowClient, name: str, alias: str) -> RegisteredModel:
    wanted = f"{name}{MARK}{alias}"
    asked = f"{typed('predict')} {shlex.quote(f'model={wanted}')} image=FILE"
    loaded = f"mlflow.pyfunc.load_model({f'models:/{wanted}'!r})"
    try:
        return client.create_registered_model(name, description=code(asked, loaded))
    except MlflowException as error:  # a server has no lock of ours: somebody else may have been first
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return client.get_registered_model(name)


def _version_of(client: mlflow.MlflowClient, name: str, run: Run) -> str | None:
    """Return the version that a run's model has already."""
    found = client.search_model_versions(f"run_id = '{run.info.run_id}'")
    return next((str(version.version) for version in found if version.name == name), None)


def _add_version(client: mlflow.MlflowClient, name: str, run: Run, model_id: str) -> str:
    reached = run.data.metrics.get(Metric.BEST_VAL_ACCURACY)
    result = f"{run.info.run_name}" + (f", validation accuracy {reached:.4f}" if reached is not None else "")
    description = hidden(f"{result}\n\n{command(run.data.tags)}".strip())
    version = client.create_model_version(
        name, f"models:/{model_id}", run.info.run_id, description=description, model_id=model_id
    )
    return str(version.version)


def _defense(client: mlflow.MlflowClient, name: str, version: str, alias: str, run: Run) -> str:
    """Return why a version keeps its alias from a run; nothing where the run is better."""
    champion = client.get_run(client.get_model_version(name, version).run_id or "")
    theirs, ours = _on_validation(champion), _on_validation(run)
    if theirs is None or ours is None:
        return (
            f"version {version} stays {alias}, as without validation nobody knows which is better; "
            f"{typed('register')} run={run.info.run_id} decides it"
        )
    if ours > theirs:
        return ""
    return f"version {version} stays {alias}, with a validation accuracy of {theirs[0]:.4f} to {ours[0]:.4f}"


def _on_validation(run: Run) -> tuple[float, float] | None:
    """Return what orders runs: the kept checkpoint's accuracy, and at equal ones its loss; None without validation."""
    reached = run.data.metrics
    if Metric.BEST_VAL_ACCURACY not in reached:
        return None
    return reached[Metric.BEST_VAL_ACCURACY], -reached.get(Metric.BEST_VAL_LOSS, 0.0)


@contextmanager
def _connected(uri: str) -> Iterator[None]:
    """Let MLflow's own functions mean this store: making a version asks them for the model."""
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else uri
    connect(uri)
    try:
        yield
    finally:
        connect(before)
