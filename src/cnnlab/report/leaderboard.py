"""Runs that differ in their seed alone, as one row."""

from __future__ import annotations

import shlex
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cnnlab.report.authors import TARGETS, Target
from cnnlab.report.read import PARENT_TAG, Facts
from cnnlab.tracking.find import is_result

# Overrides that change where and how a run is kept, not what it is.
ELSEWHERE = (
    "dataset.root",
    "dataset.download",
    "evaluation_batch_size",
    "trainer.accelerator",
    "tracking",
    "figures",
    "hydra",
)


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of the values there are; 0 deviation for a single one."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float:
        return statistics.stdev(self.values) if len(self.values) > 1 else 0.0


@dataclass(frozen=True)
class Row:
    """One configuration on one kind of device, over its seeds. A spread is None where no run has the metric."""

    recipe: str
    changed: bool
    dataset: str
    model: str
    regularization: str
    parameters: int | None
    device: str
    seeds: tuple[str, ...]
    test_accuracy: Spread | None
    test_loss: Spread | None
    validation_accuracy: Spread | None
    epochs: Spread | None
    seconds: Spread | None
    target: Target | None
    command: str
    run_ids: tuple[str, ...]

    @property
    def reached(self) -> bool | None:
        """Whether the mean is at least the author's number, within two standard deviations; for a goal without them."""
        if self.target is None:
            return None
        measured = self.validation_accuracy if self.target.split == "val" else self.test_accuracy
        if measured is None:
            return None
        # Metrics are 32-bit: 9,403 of 10,000 images are kept as .94029999. A split would need a million to notice this.
        allowance = 1e-6 + (0 if self.target.goal else 2 * measured.deviation)
        return measured.mean + allowance >= self.target.accuracy


def make_rows(runs: Iterable[Facts]) -> list[Row]:
    """Return the leaderboard: by dataset, the best first; of runs with the same seed the latest finished one counts."""
    runs = list(runs)
    commands = {run.run_id: run.tags.get("command", "") for run in runs}
    groups: dict[tuple[str, ...], list[Facts]] = defaultdict(list)
    for run in results(runs):
        device = run.tags.get("device", "").split(":")[0]
        groups[run.tags["dataset"], run.tags.get("settings", run.run_id), device].append(run)
    rows = [make_row(group, commands) for group in groups.values()]
    return sorted(
        rows, key=lambda row: (row.dataset, -(row.test_accuracy.mean if row.test_accuracy else -1), row.command)
    )


def results(runs: Sequence[Facts]) -> list[Facts]:
    """Return the runs that count: of a sweep the winner's, or as long as there are none its best trial."""
    ours = [run for run in runs if "dataset" in run.tags and "model" in run.tags]
    counted = [run for run in ours if is_result(run.tags)]
    won = {run.tags.get(PARENT_TAG) for run in counted}
    best: dict[str, Facts] = {}
    for run in ours:
        parent = run.tags.get(PARENT_TAG)
        if parent is None or parent in won or "best/val/acc" not in run.metrics:
            continue
        if parent not in best or run.metrics["best/val/acc"] > best[parent].metrics["best/val/acc"]:
            best[parent] = run
    return counted + list(best.values())


def make_row(group: Sequence[Facts], commands: Mapping[str, str]) -> Row:
    """Return the row of runs that differ in their seed alone."""
    latest = {
        run.tags.get("seed", run.run_id): run
        for run in sorted(group, key=lambda run: (run.status == "FINISHED", run.started))
    }
    seeds = tuple(sorted(latest, key=lambda seed: (len(seed), seed)))
    runs = [latest[seed] for seed in seeds]
    tags = runs[-1].tags
    overrides = _overrides(tags)
    recipe = tags.get("experiment", "")
    changed = bool(recipe) and any(not item.startswith("experiment=") for item in overrides)
    parameters = tags.get("parameters", "")
    return Row(
        recipe=recipe,
        changed=changed,
        dataset=tags["dataset"],
        model=tags["model"],
        regularization=tags.get("regularization", ""),
        parameters=int(parameters) if parameters.isdigit() else None,
        device=tags.get("device", "").split(":")[0],
        seeds=seeds,
        test_accuracy=_spread(runs, "test/acc"),
        test_loss=_spread(runs, "test/loss"),
        validation_accuracy=_spread(runs, "best/val/acc"),
        epochs=_spread(runs, "epochs"),
        seconds=_spread(runs, "training_seconds"),
        target=None if changed else TARGETS.get(recipe),
        command=_command(tags, overrides, seeds, commands),
        run_ids=tuple(run.run_id for run in runs),
    )


def _overrides(tags: Mapping[str, str]) -> list[str]:
    """Return what the command changed, without the seed and without what only says where the run is kept."""
    items = shlex.split(tags.get("overrides", ""))
    return [item for item in items if not _is(item, "seed") and not any(_is(item, key) for key in ELSEWHERE)]


def _is(override: str, key: str) -> bool:
    name = override.lstrip("+~").split("=")[0]
    return name == key or name.startswith(f"{key}.")


def _command(tags: Mapping[str, str], overrides: list[str], seeds: Sequence[str], commands: Mapping[str, str]) -> str:
    """Return the command that reproduces the row; a sweep's winner comes from the sweep."""
    if "overrides" not in tags:
        return commands.get(tags.get(PARENT_TAG, ""), "") or tags.get("command", "")
    several = ["-m"] if len(seeds) > 1 else []
    return shlex.join(["python", "train.py", *several, *overrides, f"seed={','.join(seeds)}"])


def _spread(runs: Iterable[Facts], metric: str) -> Spread | None:
    values = tuple(run.metrics[metric] for run in runs if metric in run.metrics)
    return Spread(values) if values else None
