"""A comparison under way."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Run

from cnnlab.beginning import settings_tags
from cnnlab.job import Job
from cnnlab.own_path import written
from cnnlab.settings.base import digest
from cnnlab.settings.comparing import Compare, Comparing
from cnnlab.start import typed
from cnnlab.tracking.find import open_client, search
from cnnlab.tracking.provenance import code_tags, source_digest, uncommitted_diff
from cnnlab.tracking.run import TrackedRun
from cnnlab.tracking.schema import Tag
from cnnlab.verdicts.decision import Finding, Rule, find
from cnnlab.verdicts.pairs import Pair, Pairs, gain
from cnnlab.verdicts.sides import Side, direction


@dataclass(frozen=True)
class Comparison:
    """A comparison under way: what was asked, its sides, how it is judged, its study, and its MLflow run."""

    job: Job
    asked: Comparing
    a: Side
    b: Side
    rule: Rule
    pairs: Pairs
    parent: TrackedRun

    @property
    def settings(self) -> Compare:
        return self.asked.compare

    def find(self, pairs: list[Pair]) -> Finding:
        """Return what the pairs say."""
        better = direction(self.asked.metric, self.a.settings)
        return find([gain(pair, better) for pair in pairs], self.rule)


def command_of(job: Job, asked: Comparing) -> str:
    """Return the command as a shell takes it, each side in one pair of quotes."""
    others = [item for item in job.overrides if item.partition("=")[0] not in ("a", "b")]
    sides = [f"a={asked.a}", f"b={asked.b}"]
    return shlex.join([*typed("compare").split(), *written(job.own_folder), *sides, *others])


def definition(asked: Comparing, a: Side, b: Side) -> dict[str, object]:
    """Return what two launches have in common that are the same comparison."""
    settings = asked.compare
    code: dict[str, object] = {"source": source_digest()}
    if a.own or b.own:
        code["own"] = [code_tags(Path.cwd()).get(Tag.COMMIT), uncommitted_diff(Path.cwd())]
    most = "folds" if settings.folds else settings.max_seeds
    design = [settings.seed, settings.min_seeds, most, settings.alpha, settings.delta]
    return {"metric": asked.metric, "design": design, "a": _trained(a), "b": _trained(b), **code}


def question(asked: Comparing, a: Side, b: Side) -> str:
    """Return a digest of what is compared by what, however many seeds are looked at and whichever side comes first."""
    return digest({"metric": asked.metric, "sides": sorted([_trained(a), _trained(b)])})


def _trained(side: Side) -> list[str]:
    return [side.digest, side.plan.data.training_digest, settings_tags(side.settings).get(Tag.FOLD, "")]


def earlier_looks(this: Comparison) -> list[Run]:
    """Return the runs of other comparisons of the same two settings that have come to a verdict before this one began.

    They had other seeds, or another number of them: the same command again is the same comparison.
    """
    client = open_client(this.asked.tracking.uri)
    began = client.get_run(this.parent.run_id).info.start_time
    found = search(f"tags.{Tag.COMPARED_PAIR} = '{question(this.asked, this.a, this.b)}'")
    return [run for run in found if Tag.VERDICT in run.data.tags and run.info.start_time < began]
