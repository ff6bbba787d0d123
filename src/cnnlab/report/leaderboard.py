"""Runs that differ in their seed alone, as one row."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from cnnlab.report.authors import TARGETS
from cnnlab.report.differing import chosen, differing
from cnnlab.report.places import places
from cnnlab.report.read import Facts
from cnnlab.report.rows import Row, Spread
from cnnlab.settings.commands import FOLD
from cnnlab.start import typed
from cnnlab.tracking.schema import VERSION, Metric, Role, Tag, is_result

SHORT = 6  # digits of a digest that tell two versions of a dataset apart
# Overrides that change where and how a run is kept, not what it is.
ELSEWHERE = (
    "dataset.root",
    "dataset.download",
    "dataset.sealed",
    "evaluation_batch_size",
    "trainer.accelerator",
    "tracking",
    "figures",
    "hydra",
)


def make_rows(runs: Iterable[Facts]) -> list[Row]:
    """Return the leaderboard: by dataset, the best on validation first, those without validation last and by name.

    The test split orders nothing: whoever takes the first row must not have chosen by it. Of runs with the same seed
    the latest finished one counts, before those that were not tested. Two versions of a dataset are two rows.
    """
    runs = list(runs)
    commands = {run.run_id: run.tags.get(Tag.COMMAND, "") for run in runs}
    groups: dict[tuple[str, ...], list[Facts]] = defaultdict(list)
    found = counted(runs)
    data = datasets(found)
    for run in found:
        device = run.tags.get(Tag.DEVICE, "").split(":")[0]
        version = data[run.run_id]
        groups[run.tags[Tag.DATASET], run.tags.get(Tag.SETTINGS, run.run_id), device, version].append(run)
    versions: dict[str, set[str]] = defaultdict(set)
    for name, *_, version in groups:
        versions[name].add(version)
    rows = []
    for (name, *_, version), group in groups.items():
        row = make_row(group, commands)
        several = len(versions[name] - {""}) > 1 and version
        rows.append(replace(row, dataset=f"{name} ({version[:SHORT]})") if several else row)
    return placed(told_apart(sorted(rows, key=order)))


def told_apart(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with the settings in which they differ from those that look like them."""
    looks = [((row.dataset, row.recipe, row.model, row.regularization, row.device), row.settings) for row in rows]
    return [replace(row, differing=each) for row, each in zip(rows, differing(looks), strict=True)]


def placed(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with the places they may have, each among those of its dataset that were validated."""
    found = list(rows)
    for name in dict.fromkeys(row.dataset for row in rows):
        numbers = [number for number, row in enumerate(rows) if row.dataset == name and row.validations]
        for number, place in zip(numbers, places([rows[number].validations for number in numbers]), strict=True):
            found[number] = replace(rows[number], places=place)
    return found


def order(row: Row) -> tuple[str, bool, float, str, str]:
    """Return what a row is sorted by."""
    validation = row.validation_accuracy
    name = row.recipe or row.model
    return row.dataset, validation is None, -validation.mean if validation else 0.0, name, row.command


def datasets(runs: Iterable[Facts]) -> dict[str, str]:
    """Return the digest of each run's dataset, by its id.

    A sealed run knows that of the images it trained on: it used the dataset of other runs that trained on the same, if
    that is but one.
    """
    runs = list(runs)
    known: dict[str | None, set[str]] = defaultdict(set)
    for run in runs:
        if Metric.TEST_ACCURACY in run.metrics:
            known[run.tags.get(Tag.TRAINING_IMAGES)].add(run.data)
    found = {}
    for run in runs:
        training = run.tags.get(Tag.TRAINING_IMAGES)
        candidates = known[training] if training and Metric.TEST_ACCURACY not in run.metrics else ()
        found[run.run_id] = next(iter(candidates)) if len(candidates) == 1 else run.data
    return found


def counted(runs: Sequence[Facts]) -> list[Facts]:
    """Return the runs that count: of a sweep the winner's, or as long as there are none its best trial."""
    ours = [run for run in runs if Tag.DATASET in run.tags and Tag.MODEL in run.tags]
    found = [run for run in ours if is_result(run.tags)]
    won = {run.tags.get(Tag.PARENT) for run in found}
    best = {
        run.tags.get(Tag.BEST_RUN) for run in ours if run.tags.get(Tag.ROLE) == Role.SWEEP and run.run_id not in won
    }
    return found + [run for run in ours if run.run_id in best]


def make_row(group: Sequence[Facts], commands: Mapping[str, str]) -> Row:
    """Return the row of runs that differ in their seed and fold alone."""
    latest = {
        (run.tags.get(Tag.SEED, run.run_id), run.tags.get(Tag.FOLD, "")): run
        for run in sorted(
            group, key=lambda run: (run.status == "FINISHED", Metric.TEST_ACCURACY in run.metrics, run.started)
        )
    }
    each = sorted(latest, key=lambda key: [(len(part), part) for part in key])
    runs = [latest[key] for key in each]
    seeds, folds = (tuple(dict.fromkeys(part for part in parts if part)) for parts in zip(*each, strict=True))
    tags = runs[-1].tags
    overrides = _overrides(tags)
    recipe = tags.get(Tag.EXPERIMENT, "")
    changed = bool(recipe) and any(not item.startswith(("experiment=", "--config-dir=")) for item in overrides)
    parameters = tags.get(Tag.PARAMETERS, "")
    return Row(
        recipe=recipe,
        changed=changed,
        dataset=tags[Tag.DATASET],
        model=tags[Tag.MODEL],
        regularization=tags.get(Tag.REGULARIZATION, ""),
        parameters=int(parameters) if parameters.isdigit() else None,
        device=tags.get(Tag.DEVICE, "").split(":")[0],
        seeds=seeds,
        folds=tuple(sorted(folds, key=int)),
        test_accuracy=_spread(runs, Metric.TEST_ACCURACY),
        test_loss=_spread(runs, Metric.TEST_LOSS),
        validation_accuracy=_spread(runs, Metric.BEST_VAL_ACCURACY),
        epochs=_spread(runs, Metric.EPOCHS),
        seconds=_spread(runs, Metric.TRAINING_SECONDS),
        target=None if changed else TARGETS.get(recipe),
        validations={
            seed: run.metrics[Metric.BEST_VAL_ACCURACY]
            for (seed, fold), run in zip(each, runs, strict=True)
            if Metric.BEST_VAL_ACCURACY in run.metrics and not fold  # folds share images: no t test is right for them
        },
        places=None,  # known when all rows are there
        mixed=tuple(mixtures(runs)),
        command=_command(tags, overrides, seeds, folds, commands),
        run_ids=tuple(run.run_id for run in runs),
        settings=chosen(runs[-1].settings),
        differing=(),  # known when all rows are there
    )


def mixtures(runs: Sequence[Facts]) -> Iterator[str]:
    """Yield what is not the same in all runs of a row, beside the seed: who compares rows has to know."""
    for what, key in (("torch", f"{VERSION}torch"), ("processors", Tag.DEVICE_NAME)):
        values = sorted({run.tags[key] for run in runs if key in run.tags})
        if len(values) > 1:
            yield f"{what} {' and '.join(values)}"
    tested = sum(Metric.TEST_ACCURACY in run.metrics for run in runs)
    if 0 < tested < len(runs):
        yield f"test of {tested} of {len(runs)} trainings"


def _overrides(tags: Mapping[str, str]) -> list[str]:
    """Return what the command changed, without seed and fold and without what only says where the run is kept."""
    items = shlex.split(tags.get(Tag.OVERRIDES, ""))
    apart = ("seed", FOLD, *ELSEWHERE)
    return [item for item in items if not any(_is(item, key) for key in apart)]


def _is(override: str, key: str) -> bool:
    name = override.lstrip("+~").split("=")[0]
    return name == key or name.startswith(f"{key}.")


def _command(
    tags: Mapping[str, str],
    overrides: list[str],
    seeds: Sequence[str],
    folds: Sequence[str],
    commands: Mapping[str, str],
) -> str:
    """Return the command that reproduces the row; a winner that does not say how comes from its sweep, or nowhere."""
    if Tag.OVERRIDES not in tags:
        return commands.get(tags[Tag.PARENT], "") if Tag.PARENT in tags else tags.get(Tag.COMMAND, "")
    several = ["-m"] if len(seeds) > 1 or len(folds) > 1 else []
    varied = [f"{FOLD}={','.join(folds)}"] if folds else []
    return shlex.join([*typed("train").split(), *several, *overrides, *varied, f"seed={','.join(seeds)}"])


def _spread(runs: Iterable[Facts], metric: str) -> Spread | None:
    values = tuple(run.metrics[metric] for run in runs if metric in run.metrics)
    return Spread(values) if values else None
