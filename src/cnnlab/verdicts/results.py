"""What a comparison leaves: the verdict in MLflow and on the screen, a table of its pairs, the images that flipped."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Run

from cnnlab.console import console, show_closing
from cnnlab.data.images import ImageData
from cnnlab.errors import UsageError
from cnnlab.figures.canvas import lettering
from cnnlab.figures.flips import draw_flips
from cnnlab.kept_predictions import Kept
from cnnlab.settings.comparing import Comparing
from cnnlab.start import typed
from cnnlab.tracking.descriptions import code, wrapped
from cnnlab.tracking.run import TrackedRun
from cnnlab.tracking.schema import COMPARED, VALIDATION, Direction, Tag
from cnnlab.tracking.store import page_of
from cnnlab.verdicts.decision import Finding, Rule
from cnnlab.verdicts.images import Images, compare_folds, compare_images
from cnnlab.verdicts.pairs import Pair
from cnnlab.verdicts.wording import image_lines, number, sentence

VERDICT_FILE, PAIRS_FILE, FLIPS_FILE = "verdict.json", "pairs.csv", "flips.png"


@dataclass(frozen=True)
class Verdict:
    """What a comparison has found.

    `finding` is of B's gain over the seeds or folds, None where there is one pair alone; `images` of the evaluation
    set.
    """

    sentence: str
    metric: str
    finding: Finding | None
    pairs: tuple[Pair, ...]
    images: Images | None
    run_id: str
    folder: Path
    waits: str | None = None  # what of its runs no server has yet


@dataclass(frozen=True)
class Judged:
    """Everything that is told: what was asked, the pairs with what they say, and where it is kept."""

    asked: Comparing
    better: Direction
    rule: Rule
    finding: Finding | None
    pairs: Sequence[Pair]
    predictions: Callable[[Run], Kept]  # of the metric's split; raises UsageError for a run that has none
    data: ImageData | None  # the images, where they are at hand
    parent: TrackedRun
    folder: Path
    experiment: str
    command: str

    def sentence(self) -> str:
        """Return the verdict in one sentence."""
        if self.finding is not None:
            seconds = sum(pair.seconds for pair in self.pairs) / max(1, len(self.pairs))
            return sentence(self.finding, self.rule, seconds)
        (pair,) = self.pairs
        difference = number(pair.values[1] - pair.values[0], sign=True)
        return f"B - A {difference} in one pair of runs; one pair says nothing about other seeds"


def finish(judged: Judged, seconds: float) -> Verdict:
    """Keep a verdict and show it; return it."""
    folder, parent, metric = judged.folder, judged.parent, judged.asked.metric
    folder.mkdir(parents=True, exist_ok=True)
    images = examine_images(judged)
    said = judged.sentence()
    verdict = Verdict(said, metric, judged.finding, tuple(judged.pairs), images, parent.run_id, folder)
    (folder / VERDICT_FILE).write_text(json.dumps(as_plain(verdict, judged), indent=2) + "\n", encoding="utf-8")
    write_pairs(verdict, judged.rule.unit, folder / PAIRS_FILE)
    for name in (VERDICT_FILE, PAIRS_FILE):
        parent.log_file(folder / name)
    parent.set_tags({Tag.VERDICT: said})
    parent.log_results(numbers(verdict))
    parent.describe(said, code(wrapped(judged.command)))
    drawn = draw(judged, images)
    show_closing(closing_rows(verdict, judged, drawn, seconds))
    return verdict


def examine_images(judged: Judged) -> Images | None:
    """Return what the predictions of the runs say; None, and a line that says why, where some have none."""
    pairs = judged.pairs
    if not pairs:
        return None
    try:
        kept = [tuple(judged.predictions(run) for run in pair.runs) for pair in pairs]
        compare = compare_folds if judged.rule.overlap else compare_images
        return compare([(a, b) for a, b in kept], judged.asked.metric, judged.asked.compare.alpha)
    except UsageError as error:
        for line in error.problems:
            console.print(f"nothing is said about the images: {line}", soft_wrap=True)
        return None


def draw(judged: Judged, images: Images | None) -> bool:
    """Draw the images that flipped, where there are any and the data is at hand; return whether that was done."""
    count = judged.asked.compare.flips
    if images is None or judged.data is None or not count or not images.more_a + images.more_b:
        return False
    split = judged.data.train_images if judged.asked.metric.startswith(VALIDATION) else judged.data.test_images
    signature = f"A: {judged.asked.a}, B: {judged.asked.b}"
    with lettering(judged.data.class_names, signature) as (names, _):
        draw_flips(judged.folder / FLIPS_FILE, split, images, names, count)
    judged.parent.log_file(judged.folder / FLIPS_FILE)
    return True


def numbers(verdict: Verdict) -> dict[str, float]:
    """Return the verdict's numbers as metrics of its run."""
    found: dict[str, float] = {f"{COMPARED}pairs": float(len(verdict.pairs))}
    if verdict.finding is not None and math.isfinite(verdict.finding.half_width):
        finding = verdict.finding
        found |= {f"{COMPARED}gain": finding.mean, f"{COMPARED}low": finding.low, f"{COMPARED}high": finding.high}
    if verdict.images is not None:
        images = verdict.images
        found |= {f"{COMPARED}image_low": images.low, f"{COMPARED}image_high": images.high}
        found |= {f"{COMPARED}more_a": images.more_a, f"{COMPARED}more_b": images.more_b}
        found[f"{COMPARED}mcnemar"] = images.probability
    return found


def as_plain(verdict: Verdict, judged: Judged) -> dict[str, object]:
    """Return the verdict as plain values."""
    finding, images, design = verdict.finding, verdict.images, judged.rule.design
    plain: dict[str, object] = {
        "verdict": verdict.sentence,
        "metric": verdict.metric,
        "better": judged.better,
        "a": str(judged.asked.a),
        "b": str(judged.asked.b),
        "command": judged.command,
        "alpha": design.alpha,
        "delta": judged.rule.delta,
        "looks": [design.first, design.last],
        "pairs": [
            {
                f"{judged.rule.unit}s": list(pair.numbers),
                "runs": [run.info.run_id for run in pair.runs],
                "values": list(pair.values),
            }
            for pair in verdict.pairs
        ],
    }
    if finding is not None:
        half_width = finding.half_width if math.isfinite(finding.half_width) else None
        plain["gain"] = {
            "answer": finding.answer, "mean": finding.mean, "deviation": finding.deviation, "half_width": half_width
        }  # fmt: skip
    if images is not None:
        plain["images"] = {
            "count": len(images.label),
            "difference": [images.low, images.mean, images.high],
            "more_a": images.more_a,
            "more_b": images.more_b,
            "mcnemar": images.probability,
            "mcnemar_by_pair": [{"only_a": a, "only_b": b, "p": p} for a, b, p in images.pairs],
        }
    return plain


def write_pairs(verdict: Verdict, unit: str, file: Path) -> None:
    """Write one row a pair."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(
            [f"{unit}_a", f"{unit}_b", "a", "b", "difference", "only_a", "only_b", "mcnemar", "run_a", "run_b"]
        )
        for place, pair in enumerate(verdict.pairs):
            flips = verdict.images.pairs[place] if verdict.images else ("", "", "")
            runs = [run.info.run_id for run in pair.runs]
            table.writerow([*pair.numbers, *pair.values, pair.values[1] - pair.values[0], *flips, *runs])


def closing_rows(verdict: Verdict, judged: Judged, drawn: bool, seconds: float) -> dict[str, str]:
    """Return the closing block."""
    rows = {"verdict": verdict.sentence}
    if verdict.images is not None:
        rows |= image_lines(verdict.images, judged.rule.design.alpha)
    rows["wall time"] = f"{seconds:.1f} s"
    rows["MLflow run"] = verdict.run_id
    rows["folder"] = str(verdict.folder)
    if drawn:
        rows["flipped"] = str(verdict.folder / FLIPS_FILE)
    if verdict.pairs:
        a, b = (run.info.run_id for run in verdict.pairs[0].runs)
        rows["settings"] = f"{typed('diff')} {a} {b}"
    rows["open it"] = page_of(judged.asked.tracking.uri, judged.experiment, verdict.run_id)
    return rows
