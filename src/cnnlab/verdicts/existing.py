"""Two runs that exist, and the other seeds of their settings, compared without a training."""

from __future__ import annotations

import time
from pathlib import Path

import mlflow
from mlflow.entities import Run

from cnnlab.console import console
from cnnlab.errors import UsageError, unknown
from cnnlab.job import Job
from cnnlab.settings.commands import Tracking
from cnnlab.settings.comparing import Comparing
from cnnlab.tracking.find import find_run, open_client, results
from cnnlab.tracking.provenance import code_tags
from cnnlab.tracking.run import open_run
from cnnlab.tracking.schema import MEASURES, MONITORS, Direction, Role, Tag
from cnnlab.verdicts.boundaries import Design
from cnnlab.verdicts.comparison import command_of
from cnnlab.verdicts.decision import Rule, look
from cnnlab.verdicts.known import data_digest
from cnnlab.verdicts.pairs import Pair, gain
from cnnlab.verdicts.recalled import Recalled
from cnnlab.verdicts.results import Judged, Verdict, finish

VALIDATION, TEST = "val/", "test/"
SPLITS = (VALIDATION, TEST)


def compare_runs(asked: Comparing, job: Job) -> Verdict:
    """Compare two tracked runs, and all runs of their settings that have a seed in common.

    Their number was not chosen by what they show, so there is one look, with Student's own interval. Raises UsageError
    for runs that are not there, have not the metric, or were not measured on the same images.
    """
    if asked.compare.folds:
        raise UsageError("compare.folds=true is of settings that are trained; two runs are compared seed by seed")
    started = time.perf_counter()
    client = open_client(asked.tracking.uri)
    a, b = (find_run(client, str(getattr(asked, key)), key=key) for key in ("a", "b"))
    better = check(asked.metric, a, b)
    pairs = common_seeds(asked.metric, a, b)
    seen = {run.info.run_id for pair in pairs for run in pair.runs}
    if not {a.info.run_id, b.info.run_id} <= seen:
        pairs = [pair_of(asked.metric, a, b)]
    predictions = Recalled(client, asked)
    whole = [pair for pair in pairs if all(predictions.has(run) for run in pair.runs)]
    if whole and len(whole) < len(pairs):
        left_out = len(pairs) - len(whole)
        counted = f"{left_out} pairs are" if left_out > 1 else "1 pair is"
        console.print(f"{counted} left out: {predictions.lacking[0]}", soft_wrap=True, markup=False)
    pairs = whole or pairs
    step = 0.0
    if not asked.metric.endswith(("/loss", "/objective")) and whole:
        step = 1 / len(predictions(pairs[0].runs[0]).label)
    settings = asked.compare
    rule = Rule(Design(max(2, len(pairs)), max(2, len(pairs)), settings.alpha), settings.delta, step)
    finding = look([gain(pair, better) for pair in pairs], rule) if len(pairs) > 1 else None
    for key, run in (("A", a), ("B", b)):
        console.print(f"{key}  {run.info.run_id}  {run.info.run_name}", soft_wrap=True)
    console.print(f"{asked.metric}, {len(pairs)} pairs of runs with common seeds", soft_wrap=True)
    with open_run(tracking_of(asked, a, client), tags_of(asked, job, a)) as parent:
        judged = Judged(
            asked=asked,
            better=better,
            rule=rule,
            finding=finding,
            pairs=pairs,
            predictions=predictions,
            data=predictions.data,
            parent=parent,
            folder=job.folder,
            experiment=parent.experiment_id,
            command=command_of(job, asked),
        )
        return finish(judged, time.perf_counter() - started)


def check(metric: str, a: Run, b: Run) -> Direction:
    """Return which way of the metric is better; raises UsageError with what forbids to compare the runs by it."""
    problems = []
    known = sorted({name for run in (a, b) for name in run.data.metrics if name.startswith(SPLITS)})
    better = way(metric)
    if better is None:
        problems.append(unknown("metric", metric, [name for name in known if way(name)]))
    else:
        problems += [
            f"{key}={run.info.run_id} ({run.info.run_name}, {run.info.status}) has no {metric}"
            for key, run in (("a", a), ("b", b))
            if metric not in run.data.metrics
        ]
    if a.info.run_id == b.info.run_id:
        problems.append(f"a and b are the same run, {a.info.run_id}")
    if images_of(a, metric) != images_of(b, metric):
        named = (f"{run.data.tags.get(Tag.DATASET)} with the digest {images_of(run, metric)}" for run in (a, b))
        problems.append(f"a and b were not measured on the same images: {' and '.join(named)}")
    if problems:
        raise UsageError(*problems)
    assert better is not None
    return better


def images_of(run: Run, metric: str) -> str | None:
    """Return the digest of a run's images: of validation's with those trained on, or of all with the test images.

    The fold that a run was validated on is named behind it: other folds are other images.
    """
    digest = run.data.tags.get(Tag.TRAINING_IMAGES) if metric.startswith(VALIDATION) else data_digest(run)
    fold = run.data.tags.get(Tag.FOLD)
    return digest if fold is None else f"{digest}, fold {fold}"


def way(metric: str) -> Direction | None:
    """Return which way of a metric of validation or test is better; None for another metric."""
    split, _, name = metric.partition("/")
    if f"{split}/" not in SPLITS:
        return None
    return (MONITORS | {f"{VALIDATION}{key}": better for key, better in MEASURES.items()}).get(f"{VALIDATION}{name}")


def common_seeds(metric: str, a: Run, b: Run) -> list[Pair]:
    """Return a pair for each seed that finished runs of both settings have: the latest of a seed, or the named run."""
    by_seed: list[dict[int, Run]] = []
    for named in (a, b):
        settings = named.data.tags.get(Tag.SETTINGS)
        found: dict[int, Run] = {}
        runs = results(f"tags.{Tag.SETTINGS} = '{settings}' and attributes.status = 'FINISHED'") if settings else []
        for run in [named, *runs]:
            seed = run.data.tags.get(Tag.SEED, "")
            if seed.isdigit() and metric in run.data.metrics and images_of(run, metric) == images_of(named, metric):
                found.setdefault(int(seed), run)
        by_seed.append(found)
    first, second = by_seed
    return [pair_of(metric, first[seed], second[seed]) for seed in sorted(first.keys() & second.keys())]


def pair_of(metric: str, a: Run, b: Run) -> Pair:
    seeds = int(a.data.tags.get(Tag.SEED, 0)), int(b.data.tags.get(Tag.SEED, 0))
    return Pair(seeds, (a, b), (a.data.metrics[metric], b.data.metrics[metric]))


def tags_of(asked: Comparing, job: Job, a: Run) -> dict[str, str]:
    """Return the tags of a comparison's run."""
    tags: dict[str, str] = {
        Tag.ROLE: Role.COMPARISON,
        Tag.COMMAND: command_of(job, asked),
        Tag.COMPARED_METRIC: asked.metric,
    }
    tags |= {Tag.COMPARED_A: str(asked.a), Tag.COMPARED_B: str(asked.b)}
    return tags | {Tag.DATASET: a.data.tags.get(Tag.DATASET, "")} | code_tags(Path.cwd())


def tracking_of(asked: Comparing, a: Run, client: mlflow.MlflowClient) -> Tracking:
    """Return how the comparison's run is kept: in the experiment of A."""
    return Tracking(
        uri=asked.tracking.uri,
        experiment_name=client.get_experiment(a.info.experiment_id).name,
        run_name="compare a b",
        offline=False,
        log_model=False,
        register=False,
        system_metrics=False,
        system_metrics_interval=5.0,
    )
