"""Trials of one shape that a worker trains as one program; each keeps its run, its pruning and its end."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.trial import TrialState

from cnnlab import process
from cnnlab.errors import UsageError
from cnnlab.fused.fitting import obstacle, shape_of
from cnnlab.fused.loop import Member, fit_together
from cnnlab.plan import read_training
from cnnlab.settings.sweep import WorkerOrder
from cnnlab.sweeps.promotion import Promotion
from cnnlab.sweeps.setup import reason_kept
from cnnlab.sweeps.storage import CONTINUES, StudyLock
from cnnlab.sweeps.story import Fitting, Story, Together, alone
from cnnlab.sweeps.study import counted, offered
from cnnlab.sweeps.suggestion import Draft
from cnnlab.sweeps.trial import Task
from cnnlab.tracking.store import reserved_space

Value = float | list[float]


@dataclass(eq=False)
class Telling:
    """A trial under way: its story, and the training that the story waits for."""

    trial: optuna.Trial
    draft: Draft
    story: Story[Value] | None = None
    fitting: Fitting | None = None

    def open(self, story: Story[Value], told: Callable[[optuna.Trial, Value | Exception], None]) -> None:
        """Begin a story; `told` gets what comes of it."""
        self.story, self.told = story, told
        self.go_on(lambda: next(story))

    def fitted(self, outcome: float | Exception) -> None:
        """Go on after the training, which took so many seconds or failed."""
        story = self.story
        assert story is not None
        if isinstance(outcome, Exception):
            self.go_on(lambda: story.throw(outcome))
        else:
            self.go_on(lambda: story.send(outcome))

    def go_on(self, step: Callable[[], Fitting]) -> None:
        """Take a step of the story, to its next training or to its end."""
        self.fitting = None
        try:
            self.fitting = step()
            return
        except StopIteration as end:
            outcome: Value | Exception = end.value
        except Exception as error:
            outcome = error
        self.story = None
        self.told(self.trial, outcome)


@dataclass
class Conductor:
    """Takes up to `order.fused` trials of a study at once, and trains together those that have one shape."""

    study: optuna.Study
    lock: StudyLock
    task: Task
    order: WorkerOrder
    promoted: Promotion | None = None
    alive: set[int] = field(default_factory=set)  # the trials of which the heartbeat tells

    def __post_init__(self) -> None:
        # The total ends a sweep. A grid sampler that was told its last point would end a loop of Optuna's own.
        self.study.stop = lambda: None  # type: ignore[method-assign]

    def take(self) -> bool:
        """Take trials and tell them to their end; return whether there were any."""
        with self.heartbeat():
            taken = self.ask()
            for group in grouped(taken, self.shape):
                if len(group) > 1:
                    self.together(group)
                else:
                    self.by_itself(group[0])
        process.free_memory()
        return bool(taken) or bool(self.asked)

    def ask(self) -> list[Telling]:
        """Return trials that are this worker's now, with what they are to be."""
        taken: list[Telling] = []
        self.asked = 0
        share = self.order.fused
        while self.asked < share:
            with offered(self.study, self.lock, self.order.total, self.promoted) as waiting:
                if not waiting:
                    break
                trial = self.study.ask()
            self.alive.add(trial._trial_id)
            if not self.asked:
                share = min(share, self.share())
            self.asked += 1
            try:
                with reason_kept(trial):
                    taken.append(Telling(trial, self.task.draft(trial)))
            except Exception as error:
                self.told(trial, error)
        return taken

    def share(self) -> int:
        """Return how many of the trials that are left, with the one just taken, are one worker's."""
        trials = counted(self.study.get_trials(deepcopy=False))
        left = (self.order.total or len(trials)) - sum(trial.state != TrialState.WAITING for trial in trials) + 1
        return max(1, math.ceil(left / self.order.sweep.n_workers))

    def shape(self, telling: Telling) -> str | None:
        """Return what a trial has in common with those it may train with; None for one that trains by itself."""
        if CONTINUES in telling.trial.user_attrs:
            return None
        try:
            settings = read_training(telling.draft.values, self.task.setup.data)
        except UsageError:  # it fails, by itself
            return None
        if (reason := obstacle(settings)) is not None:
            print(f"trial {telling.trial.number} trains by itself: {reason}", file=sys.stderr)
            return None
        return shape_of(settings)

    def by_itself(self, telling: Telling) -> None:
        """Train a trial as ever."""
        try:
            outcome: Value | Exception = alone(self.task.story(telling.trial, telling.draft))
        except Exception as error:
            outcome = error
        self.told(telling.trial, outcome)

    def together(self, group: Sequence[Telling]) -> None:
        """Tell the trials of one shape side by side, and train together those that wait for a training."""
        with reserved_space(self.task.setup.config.tracking.uri) as free_space:
            shared = Together(len(group), free_space)
            try:
                for telling in group:
                    telling.open(self.task.story(telling.trial, telling.draft, shared), self.told)
                while waiting := [telling for telling in group if telling.fitting is not None]:
                    fit_together([member(telling) for telling in waiting])
            except BaseException as error:
                for telling in group:
                    if telling.story is not None:
                        with suppress(BaseException):
                            telling.story.throw(error)
                raise

    def told(self, trial: optuna.Trial, outcome: Value | Exception) -> None:
        """Tell Optuna what came of a trial, unless others took it for dead meanwhile and it counts elsewhere."""
        self.alive.discard(trial._trial_id)
        try:
            if self.study.get_trials(deepcopy=False)[trial.number].state.is_finished():
                raise UpdateFinishedTrialError("it has ended there")
            if isinstance(outcome, optuna.TrialPruned):
                self.study.tell(trial, state=TrialState.PRUNED)
            elif isinstance(outcome, Exception):
                self.study.tell(trial, state=TrialState.FAIL)
            else:
                self.study.tell(trial, outcome)
        except UpdateFinishedTrialError as error:
            print(f"trial {trial.number} was taken over by another worker: {error}", file=sys.stderr)

    @contextmanager
    def heartbeat(self) -> Iterator[None]:
        """Record within the block that the trials taken in it are alive."""
        storage, ended = self.study._storage, threading.Event()
        assert isinstance(storage, BaseHeartbeat)

        def beat() -> None:
            while not ended.wait(self.order.sweep.heartbeat):
                for number in list(self.alive):
                    storage.record_heartbeat(number)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.alive.clear()


def grouped(taken: Sequence[Telling], shape: Callable[[Telling], str | None]) -> list[list[Telling]]:
    """Return the trials by their shape, in the order they were taken; those of none by themselves, at the end."""
    groups: dict[str, list[Telling]] = {}
    single = []
    for telling in taken:
        of = shape(telling)
        if of is None:
            single.append([telling])
        else:
            groups.setdefault(of, []).append(telling)
    return [*groups.values(), *single]


def member(telling: Telling) -> Member:
    """Return the training that a trial waits for as a member of a stack."""
    fitting = telling.fitting
    assert fitting is not None
    watch = fitting.watch
    return Member(fitting.plan, fitting.numbers, watch.see, watch.judge, telling.fitted, lambda: watch.pruned)
