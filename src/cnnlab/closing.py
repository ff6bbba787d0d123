"""What is said when a run has ended: what came out, and where it is."""

from __future__ import annotations

from dataclasses import replace

from cnnlab.errors import collect
from cnnlab.keeping import Result, measures_shown
from cnnlab.plan import Plan
from cnnlab.settings.commands import Training
from cnnlab.start import typed
from cnnlab.tracking.registry import register
from cnnlab.tracking.run import TrackedRun
from cnnlab.tracking.store import absolute_uri, page_of


def register_result(result: Result, settings: Training) -> Result:
    """Let the run's model compete for the champion of its dataset; what hinders it is told as what waits is."""
    if result.waits:
        later = f"not yet; when it is delivered: {typed('register')} run={result.run_id}"
        return replace(result, registered=later)
    problems: list[str] = []
    found = collect(problems, register, settings.tracking.uri, result.run_id, settings.dataset.name, contest=True)
    return replace(result, registered=found.describe() if found else None, waits=problems[0] if problems else None)


def closing_rows(result: Result, run: TrackedRun, plan: Plan, seconds: float) -> dict[str, str]:
    """Return the closing block: what came out, and where it is."""
    rows = {name: f"{value:.4f}" for name, value in measures_shown(result, plan).items()}
    if plan.data.sealed:
        rows["test split"] = f"sealed; to open it: {typed('evaluate')} run={run.run_id} unseal=true"
    watched = plan.checkpoint.monitor
    score = plan.checkpoint.best_model_score
    reached = f" ({watched} {float(score):.4f})" if watched and score is not None else ""
    rows["best epoch"] = f"{result.best_epoch} of {plan.trainer.current_epoch}{reached}"
    before = plan.last.seconds
    rows["wall time"] = f"{seconds:.1f} s, of which training {result.training_seconds - before:.1f} s"
    if before:
        rows["wall time"] += f"; it had trained {before:.1f} s before"
    rows["MLflow run"] = run.run_id
    rows["folder"] = str(result.folder)
    if result.registered:
        rows["registered"] = result.registered
    if result.model_uri:
        store = absolute_uri(plan.settings.tracking.uri)
        use = f'mlflow.set_tracking_uri("{store}"); model = mlflow.pyfunc.load_model("{result.model_uri}")'
        rows["use it"] = f"import mlflow; {use}"
    if plan.settings.tracking.offline:
        rows["deliver it"] = typed("sync")
        return rows
    rows["open it"] = page_of(plan.settings.tracking.uri, run.experiment_id, run.run_id)
    return rows
