"""What stands first on a run's page: its result, its learning curves, and the command that repeats it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from cnnlab.plan import Plan
from cnnlab.start import typed
from cnnlab.tracking.descriptions import PICTURE, UNKNOWN_ID, code, command, picture, result_line
from cnnlab.tracking.history import History
from cnnlab.tracking.tracked_run import TrackedRun


def describe_run(run: TrackedRun, shown: Mapping[str, float], drawn: Path | None) -> None:
    """Describe a run that has finished; `shown` are the metrics that its closing block has.

    `drawn` is the folder of its pictures, which are kept by now.
    """
    metrics = {entry.key: entry.value for entry in run.results}
    curves = drawn is not None and (drawn / Path(PICTURE).name).exists()
    run.describe(result_line(metrics, shown), command(run.tags), picture(run.run_id) if curves else "")


def keep_curves(run: TrackedRun, plan: Plan, history: History, kept: int) -> str:
    """Keep the small picture of the learning curves with the run, and return it as a part of the description.

    Nothing where no pictures are drawn, and where no epoch has ended.
    """
    if not plan.settings.figures.enabled:
        return ""
    from cnnlab.figures.preview import draw_preview  # imports matplotlib, which training does not wait for

    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary, Path(PICTURE).name)
        if not draw_preview(file, history, kept):
            return ""
        run.log_file(file, str(Path(PICTURE).parent))
    return picture(run.run_id)


def describe_model(run: TrackedRun, plan: Plan) -> str:
    """Return the description of the model that a run keeps."""
    data = plan.data
    metrics = {entry.key: entry.value for entry in run.results}
    reached = ", ".join(
        f"{name} {metrics[name]:.4f}" for name in ("test/acc", "test/loss", "best/val/acc") if name in metrics
    )
    channels, height, width = data.input_shape
    kind = "colour" if channels == 3 else "grey"
    takes = f"It takes {kind} images of {height} x {width} pixels, 0..255, [N, {channels}, {height}, {width}]"
    names = ", ".join(data.class_names[:20]) + (", ..." if data.classes > 20 else "")
    load = f'mlflow.pyfunc.load_model("models:/{UNKNOWN_ID}").predict(images, params={{"labels": True}})'
    again = f"{typed('predict')} run={run.run_id} image=FILE"
    said = f"{plan.settings.model.name} on {data.name}: {reached}."
    return "\n\n".join((said, f"{takes}, and answers for {data.classes} classes: {names}.", code(load, again)))
