"""The pairs of a comparison: which are trained, which are queued, and what they differ by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import mlflow
import optuna
from mlflow.entities import Run
from optuna.trial import FrozenTrial, TrialState

from cnnlab.report.read import existing
from cnnlab.sweeps.storage import PART, RUN, SEED, SIDE, StudyLock
from cnnlab.sweeps.study import REASON, counted
from cnnlab.tracking.schema import Direction

A, B = "a", "b"
Key = tuple[str, int]  # a side, and a seed or a fold


@dataclass(frozen=True)
class Pair:
    """One training of each side, from weights and batch orders of the same seed unless the sides are equal.

    `numbers` are their seeds, or the fold that both were validated on.
    """

    numbers: tuple[int, int]
    runs: tuple[Run, Run]
    values: tuple[float, float]

    @property
    def seconds(self) -> float:
        """How long both took from their start to their end, one after the other."""
        spans = [(run.info.end_time or run.info.start_time) - run.info.start_time for run in self.runs]
        return sum(spans) / 1000


def gain(pair: Pair, better: Direction) -> float:
    """Return by how much B is better than A, whichever way of the metric that is."""
    difference = pair.values[1] - pair.values[0]
    return difference if better == "max" else -difference


def seed_pairs(equal: bool, first: int, count: int) -> list[tuple[int, int]]:
    """Return the seeds of each pair; a setting compared with itself gets others for B, or all would be equal."""
    shift = count if equal else 0
    return [(first + place, first + shift + place) for place in range(count)]


@dataclass
class Pairs:
    """The state of a comparison over seeds or folds, whose `numbers` are those of each pair.

    `taken` are runs that were tracked before it, by side and number.
    """

    numbers: list[tuple[int, int]]
    unit: str  # SEED or PART
    metric: str
    client: mlflow.MlflowClient
    study: optuna.Study
    lock: StudyLock
    taken: Mapping[Key, Run]
    read: dict[str, Run | None] = field(default_factory=dict)  # runs of trials that ended, by id

    def keys(self, place: int) -> tuple[Key, Key]:
        first, second = self.numbers[place]
        return (A, first), (B, second)

    def runs(self) -> dict[Key, Run]:
        """Return the run of each training that has ended well, by side and number."""
        found = dict(self.taken)
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            run_id = trial.user_attrs.get(RUN)
            if run_id is None:
                continue
            if run_id not in self.read:
                self.read[run_id] = existing(self.client, run_id)
            if (run := self.read[run_id]) is not None and self.metric in run.data.metrics:
                found.setdefault(key_of(trial), run)
        return found

    def complete(self) -> list[Pair]:
        """Return the pairs of which both sides are there, in the order of their numbers, up to the first that is not.

        A later pair that is there before an earlier one waits for it: which pairs count must not depend on how long
        they took.
        """
        runs, found = self.runs(), []
        for place, numbers in enumerate(self.numbers):
            first, second = (runs.get(key) for key in self.keys(place))
            if first is None or second is None:
                break
            values = first.data.metrics[self.metric], second.data.metrics[self.metric]
            found.append(Pair(numbers, (first, second), values))
        return found

    def queue(self, pairs: int) -> None:
        """Queue what is missing of the first `pairs` pairs, A and B in turn."""
        with self.lock.held():
            trials = counted(self.study.get_trials(deepcopy=False))
            coming = {key_of(trial) for trial in trials if trial.state in (TrialState.WAITING, TrialState.RUNNING)}
            there = self.runs()  # behind the former: what ends between the two is there, and not lost to both
            for place in range(min(pairs, len(self.numbers))):
                for side, number in self.keys(place):
                    if (side, number) not in there and (side, number) not in coming:
                        self.study.enqueue_trial({SIDE: side, self.unit: number})

    def busy(self) -> bool:
        """Return whether a training is under way or waits to be."""
        trials = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING, TrialState.RUNNING))
        return bool(trials)

    def failure(self, since: int) -> str | None:
        """Return which training failed, of the trials from number `since` on, and why; None where none did."""
        for trial in counted(self.study.get_trials(deepcopy=False))[since:]:
            if trial.state == TrialState.FAIL:
                side, number = key_of(trial)
                reason = trial.user_attrs.get(REASON, "its process died")
                return f"{side} with {self.unit} {number} failed: {reason}"
        return None


def key_of(trial: FrozenTrial) -> Key:
    """Return the side and the number that a trial was queued with: its own parameters come one after the other."""
    values = trial.system_attrs["fixed_params"]
    return str(values[SIDE]), int(values[PART] if PART in values else values[SEED])
