"""One trial: a training with other values, watched epoch by epoch."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import optuna
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from optuna.trial import FrozenTrial, TrialState

from cnnlab import process
from cnnlab.beginning import settings_tags
from cnnlab.errors import UNREADABLE
from cnnlab.last_checkpoint import State, read_state
from cnnlab.plan import Plan, make_plan, read_training
from cnnlab.ranks import several
from cnnlab.settings.base import flatten
from cnnlab.settings.commands import FOLD, Tracking
from cnnlab.settings.read import read, resolve
from cnnlab.sweeps.goals import Goals, cost
from cnnlab.sweeps.limits import Limits
from cnnlab.sweeps.promotion import tidy
from cnnlab.sweeps.setup import Setup, reason_kept
from cnnlab.sweeps.space import Space, apply, section
from cnnlab.sweeps.storage import CONTINUES, RUN, STATE, run_name, state_of
from cnnlab.sweeps.story import Fitting, Story, Together, alone
from cnnlab.sweeps.study import DUPLICATE, EXCESS, REASON, RESULT, THREADS, is_infeasible
from cnnlab.sweeps.suggestion import Draft, find_twin, suggested
from cnnlab.sweeps.trial_run import COMPILE, ended_tags, logged, reached_line, record_plan
from cnnlab.sweeps.watch import Watch
from cnnlab.tracking.run import TrackedRun, open_run
from cnnlab.tracking.schema import VALIDATION, Role, Tag

KNOWN_LATER = ("threads", COMPILE)  # what becomes of these settings in a worker


class TooCostly(Exception):
    """The network costs more than is allowed; the message says how much."""


@dataclass(frozen=True)
class Task:
    """Trains as Optuna suggests, `seeds` times a trial, each with another seed or, with `folds`, on another fold.

    A network that costs more than `limits` allows is not trained. Trials are pruned after each epoch of the first seed,
    or, `seed_by_seed`, between the seeds.
    """

    setup: Setup
    space: Space
    goals: Goals
    seeds: int
    limits: Limits = field(default_factory=lambda: Limits({}))
    seed_by_seed: bool = False
    folds: bool = False

    def __call__(self, trial: optuna.Trial) -> float | list[float]:
        """Train as Optuna suggests and return the value, or the two values, of the trial.

        Raises TrialPruned after an orderly end; any other exception is the trial's failure, with its reason kept.
        """
        try:
            return alone(self.story(trial))
        finally:
            process.free_memory()

    def draft(self, trial: optuna.Trial) -> Draft:
        """Return what a trial is to be, as Optuna suggests."""
        stored = suggested(trial, self.space)
        chosen = self.space.values(stored)
        config = self.setup.configured(chosen, run_name(trial))
        return Draft(stored, chosen, config, resolve(config))

    def story(
        self, trial: optuna.Trial, draft: Draft | None = None, together: Together | None = None
    ) -> Story[float | list[float]]:
        """Tell a trial from its suggestion to its value; each of its trainings is yielded, and waits for its seconds.

        Raises what `__call__` does. With `together` it is one of several that are told side by side.
        """
        with reason_kept(trial):
            return (yield from self.run(trial, draft or self.draft(trial), together))

    def run(self, trial: optuna.Trial, draft: Draft, together: Together | None) -> Story[float | list[float]]:
        stored, chosen, config, values = draft.stored, draft.chosen, draft.config, draft.values
        tracking = read(Tracking, section(values, "tracking"), "tracking.")
        tags: dict[str, str] = {Tag.PARENT: self.setup.parent_run, Tag.ROLE: Role.TRIAL, Tag.TRIAL: str(trial.number)}
        tags[Tag.OVERRIDES] = self.setup.repeated(config, chosen)
        if together is not None:
            tags[Tag.FUSED] = str(together.number)
        with open_run(tracking, tags, reserve=together.reserve if together else None) as run:
            trial.set_user_attr(RUN, run.run_id)
            run.log_parameters({key: value for key, value in flatten(values).items() if key not in KNOWN_LATER})
            settings = read_training(values, self.setup.data)
            threads = process.use_threads(settings.threads)
            trial.set_user_attr(THREADS, threads)
            run.log_parameters({"threads": threads}, settings_tags(settings) | {str(Tag.THREADS): str(threads)})
            state = None
            if (number := trial.user_attrs.get(CONTINUES)) is not None:
                state = state_of(trial.study.get_trials(deepcopy=False)[number])
            elif (twin := find_twin(trial, stored)) is not None:
                return self.repeat(trial, twin, run)
            trainings: list[Watch] = []
            pruned = False
            while not pruned and len(trainings) < self.seeds:
                index = len(trainings)
                try:
                    seeded = apply(config, {FOLD: index} if self.folds else {"seed": config.seed + index})
                    earlier, stacked = None if index else state, together is not None
                    trainings.append((yield from self.train(trial, seeded, index, run, earlier, stacked=stacked)))
                except TooCostly as error:
                    run.set_tags(ended_tags(trial, "infeasible", run, str(error)))
                    trial.set_user_attr(REASON, str(error))
                    raise optuna.TrialPruned(str(error)) from error
                pruned = trainings[0].pruned or (self.seed_by_seed and self.is_worse(trial, trainings))
            measured = self.keep(trial, run, trainings, pruned)
        if pruned:
            raise optuna.TrialPruned(f"after epoch {trainings[-1].last_epoch} of seed {config.seed + index}")
        achieved = [measured[name] for name in self.goals.names]
        return achieved[0] if self.goals.single else achieved

    def train(
        self,
        trial: optuna.Trial | None,
        config: DictConfig,
        index: int,
        run: TrackedRun,
        earlier: Path | None = None,
        *,
        stacked: bool = False,
    ) -> Story[Watch]:
        """Yield one training, to be fitted, and return what was seen; from the state of an `earlier` trial, if any.

        The state of the first seed is written after each epoch, and removed once it is not pruned.
        """
        settings = read_training(resolve(config), self.setup.data)
        process.seed(settings.seed)
        process.use_threads(settings.threads)
        plan = make_plan(settings, self.setup.folder, self.setup.data, self.setup.weights)
        if index == 0:
            record_plan(run, plan, "none" if stacked else str(plan.settings.trainer.compile))
        callbacks: list[pl.Callback] = plan.trainer.callbacks  # type: ignore[attr-defined]
        callbacks.remove(plan.checkpoint)
        if index == 0 and trial is not None:
            self.check(trial, plan, run)
        watched = index == 0 and self.goals.single and not self.seed_by_seed
        watch = Watch(plan, self.goals, trial if watched else None, run, index)
        state = None
        if index or trial is None or plan.trainer.world_size > 1:
            callbacks.remove(plan.last)
        else:
            plan.last.file = (self.setup.folder / "states" / f"{run.run_id}.ckpt").absolute()
            plan.last.sync = False  # a process that dies loses nothing; after a power cut the trial begins anew
            trial.set_user_attr(STATE, str(plan.last.file))
            state = self.go_on(trial, run, earlier, watch)
        around = partial(several, plan, run, self.setup.folder, self.setup.own_folder, test=False)
        try:
            watch.seconds = yield Fitting(plan, watch, state, torch.get_rng_state(), around)
        except Exception:
            plan.last.file.unlink(missing_ok=True)  # it would fail again
            raise
        if earlier is not None:
            earlier.unlink(missing_ok=True)
        if watch.pruned and watch.trial is not None:
            tidy(watch.trial.study)
        else:
            plan.last.file.unlink(missing_ok=True)
        kept = plan.classifier.float().network  # as people get it, whatever precision it was trained with
        for name in self.goals.names[1:]:
            watch.costs[name] = cost(name, kept, plan.data.input_shape)
        return watch

    def go_on(self, trial: optuna.Trial, run: TrackedRun, earlier: Path | None, watch: Watch) -> State | None:
        """Return the state of an earlier trial, after telling the watch and the run of its epochs; None without one."""
        if earlier is None:
            return None
        try:
            state = read_state(earlier)
        except UNREADABLE:  # the machine went down before it was on the disk
            return None
        for epoch, metrics in state.epochs.items():
            watch.see(epoch, metrics)
        run.set_tags({Tag.CONTINUES: str(trial.user_attrs[CONTINUES])})
        return state

    def check(self, trial: optuna.Trial, plan: Plan, run: TrackedRun) -> None:
        """Keep what the network costs of what is limited; raises TooCostly where that is too much."""
        if not self.limits.most:
            return
        costs = self.limits.costs(plan.classifier.network, plan.data.input_shape)
        run.log_results({logged(name): value for name, value in costs.items()})
        trial.set_user_attr(EXCESS, self.limits.excess(costs))
        if too_much := self.limits.exceeded(costs):
            raise TooCostly(too_much)

    def is_worse(self, trial: optuna.Trial, trainings: list[Watch]) -> bool:
        """Report the last seed's value to Optuna; return whether the seeds so far tell that the trial is worse."""
        trial.report(trainings[-1].kept()[self.goals.metric], len(trainings) - 1)
        return len(trainings) < self.seeds and trial.should_prune()

    def keep(self, trial: optuna.Trial, run: TrackedRun, trainings: list[Watch], pruned: bool) -> dict[str, float]:
        """Keep the means over the trainings with the run and the trial, and return them."""
        results = [training.kept() for training in trainings]
        measured = {name: statistics.fmean(result[name] for result in results) for name in results[0]}
        run.log_results({logged(name): value for name, value in measured.items()})
        reached = {name: value for name, value in measured.items() if name.startswith(VALIDATION)}
        if any(trainings[0].last[name] != value for name, value in reached.items()):
            # As in a run of train.py: MLflow sorts by what stands at the last step.
            run.log_metrics(trainings[0].last_epoch + 1, reached)
        run.set_tags(ended_tags(trial, "pruned" if pruned else "complete", run, reached_line(measured)))
        spread = {"seeds": [result[self.goals.metric] for result in results]} if len(results) > 1 else {}
        trial.set_user_attr(RESULT, measured | spread)
        return measured

    def repeat(self, trial: optuna.Trial, twin: FrozenTrial, run: TrackedRun) -> float | list[float]:
        """End as the finished trial with the same parameters did, without training."""
        state = "pruned" if twin.state == TrialState.PRUNED else "complete"
        if EXCESS in twin.user_attrs:
            trial.set_user_attr(EXCESS, twin.user_attrs[EXCESS])
        if is_infeasible(twin):
            state = "infeasible"
            trial.set_user_attr(REASON, twin.user_attrs[REASON])
        said = f"the same parameters as trial {twin.number}, not trained again"
        run.set_tags({**ended_tags(trial, state, run, said), Tag.DUPLICATE: str(twin.number)})
        trial.set_user_attr(DUPLICATE, twin.number)
        trial.set_user_attr(RESULT, twin.user_attrs.get(RESULT, {}))
        for epoch, value in twin.intermediate_values.items():
            trial.report(value, epoch)
        if state != "complete":
            raise optuna.TrialPruned
        return twin.values
