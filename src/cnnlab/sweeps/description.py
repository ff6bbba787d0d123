"""What stands first on a sweep's page in MLflow: what it has found, what matters, and how to go on."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
from PIL import Image

from cnnlab.sweeps.goals import Goals
from cnnlab.sweeps.view import ENDED, cut_short, mean_and_spread, number, parameters, tally
from cnnlab.tracking.descriptions import PICTURE, WIDTH, code, picture, wrapped
from cnnlab.tracking.schema import Metric
from cnnlab.tracking.tracked_run import TrackedRun

IMPORTANCES = "importances.png"
CONFIRMED = (Metric.TEST_ACCURACY, Metric.VAL_ACCURACY)


def describe_sweep(
    parent: TrackedRun,
    study: optuna.Study,
    goals: Goals,
    commands: Mapping[str, str],
    plots: Path,
    tested: Sequence[Mapping[str, float]] = (),
) -> None:
    """Describe a sweep as it is now; `commands` by what they do, `plots` the folder of its pictures.

    `tested` is what the winner has reached since, a mapping a seed.
    """
    trials = study.get_trials(deepcopy=False)
    counts = tally(trials)
    ended = ", ".join(f"{counts[name]} {name}" for name in ENDED if counts[name])
    said = f"{counts['ended']} trials" + (f" ({ended})" if ended else "")
    best = goals.best(trials)
    found = ""
    if best is not None:
        reached = ", ".join(f"{name} {number(value)}" for name, value in zip(goals.names, best.values, strict=True))
        said = f"best is trial {best.number}: {reached}{cut_short(best)}; {said}"
        found = code(wrapped(parameters(best.params)))
    for name in CONFIRMED:
        if tested and name in tested[0]:
            said += f"; trained again: {name} {mean_and_spread([result[name] for result in tested])}"
    lines = [part for what, text in commands.items() for part in (f"# {what}", wrapped(text))]
    again = code(*lines) if lines else ""
    parts = [found, again, importances(parent, plots / IMPORTANCES)]
    parent.story[:] = [said, *parts]
    parent.describe(said, *parts)


def importances(parent: TrackedRun, file: Path) -> str:
    """Keep the picture of the importances as wide as a description is, and return it; nothing where there is none."""
    if not file.is_file():
        return ""
    with Image.open(file) as drawn, tempfile.TemporaryDirectory() as temporary:
        small = Path(temporary, Path(PICTURE).name)
        height = round(drawn.height * WIDTH / drawn.width)
        (drawn if drawn.width <= WIDTH else drawn.resize((WIDTH, height), Image.Resampling.LANCZOS)).save(small)
        parent.log_file(small, str(Path(PICTURE).parent))
    return picture(parent.run_id)
