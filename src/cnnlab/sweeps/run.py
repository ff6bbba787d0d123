"""The whole story of a sweep, top to bottom: order, study, workers, winner, results."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import optuna
import pandas as pd

from cnnlab import process
from cnnlab.beginning import settings_tags
from cnnlab.console import say, show_closing
from cnnlab.errors import UsageError, collect
from cnnlab.job import Job
from cnnlab.settings.sweep import Search
from cnnlab.signals import Interruption, deferred
from cnnlab.start import typed
from cnnlab.sweeps.dashboard import describe, link_trials, name_goals
from cnnlab.sweeps.description import describe_sweep
from cnnlab.sweeps.first import queue_first
from cnnlab.sweeps.goals import Goals
from cnnlab.sweeps.order import Order, read_order
from cnnlab.sweeps.results import TRIALS_FILE, SweepRun, best_again, closing_rows, record_winner, summarize
from cnnlab.sweeps.running import RunningSweep, run_workers, work_order
from cnnlab.sweeps.storage import PARENT_RUN, RUN, SEED, StudyLock, hidden
from cnnlab.sweeps.study import (
    RESULT,
    check_definition,
    counted,
    needs_database,
    open_study,
    requeue_dead,
)
from cnnlab.sweeps.view import tally
from cnnlab.tracking.delivery import now
from cnnlab.tracking.provenance import code_tags
from cnnlab.tracking.recording import left_behind
from cnnlab.tracking.registry import register_best
from cnnlab.tracking.run import TrackedRun, create_run, open_run
from cnnlab.tracking.schema import SEARCH, Metric, Role, Tag
from cnnlab.tracking.shared_rows import log_dataset
from cnnlab.tracking.stale import tell_stale_runs


def sweep(job: Job) -> SweepRun:
    """Search as the job's configuration says, keep the outcome, and train and test the winner again.

    Nothing is written before everything is checked. The same call continues a study that was interrupted. Raises
    UsageError for a sweep that cannot run and for one that differs from the study it would continue.
    """
    started, begun = time.perf_counter(), now()
    process.begin()
    process.begin_search()
    order = read_order(job)
    settings = order.settings
    study, lock = open_study(settings, settings.name, order.goals.directions)
    new = check_definition(study, lock, order.definition())
    with needs_database(settings.storage), open_parent(order, study, lock) as parent:
        this = RunningSweep(order, study, lock, parent, job.folder, new)
        name_goals(study, order.goals.names)
        requeue_dead(study, lock, settings.retries)
        tell_stale_runs(order.training.tracking.uri)
        introduce(this)
        describe(study, order.goals, {"The sweep in MLflow": this.page(parent.run_id)}, {})
        with lock.held():
            queue_first(study, order.first)
        try:
            search(this)
        except Interruption as interruption:
            interruption.add_note(f"MLflow run {parent.run_id} is KILLED; the same command continues the sweep:")
            interruption.add_note(command_of(order))
            raise
        finally:
            keep_results(this)
        tested, runs = confirm(this)
        if tested:
            tell_page(this, tested)
    rows = closing_rows(order, study, parent, job.folder, tested, time.perf_counter() - started)
    problems: list[str] = []
    if order.training.tracking.registers and runs:
        uri, name = order.training.tracking.uri, order.training.dataset.name
        registered = collect(problems, register_best, uri, runs, name)
        rows |= {"registered": registered.describe()} if registered else {}
    show_closing(rows)
    best = order.goals.best(study.get_trials(deepcopy=False))
    return SweepRun(
        run_id=parent.run_id,
        folder=job.folder,
        study=study,
        best_trial=best.number if best else None,
        best_parameters=order.space.values(best.params) if best else {},
        best_values=dict(zip(order.goals.names, best.values, strict=True)) if best else {},
        trials=pd.read_csv(job.folder / TRIALS_FILE),
        tested=pd.DataFrame(tested),
        waits=left_behind(begun) or (problems[0] if problems else None),
    )


@contextmanager
def open_parent(order: Order, study: optuna.Study, lock: StudyLock) -> Iterator[TrackedRun]:
    """Open the MLflow run of the sweep, the same one in every launch.

    Raises UsageError where the study's run is not in this tracking store.
    """
    tags: dict[str, str] = {Tag.ROLE: Role.SWEEP, Tag.STUDY: study.study_name, Tag.COMMAND: command_of(order)}
    tags |= settings_tags(order.training) | code_tags(Path.cwd())
    tracking = order.training.tracking.model_copy(update={"run_name": study.study_name, "system_metrics": False})
    with lock.held(), deferred():
        run_id = study.user_attrs.get(PARENT_RUN)
        first = run_id is None
        if first:
            run_id = create_run(tracking, tags)
            study.set_user_attr(PARENT_RUN, run_id)
    try:
        with open_run(tracking, {}, run_id) as run:
            if first:
                grammar = {f"{SEARCH}{key}": text for key, text in order.space.grammar().items()}
                run.log_parameters(grammar | order.training.flat())
                log_dataset(run.client, run.run_id, order.dataset)
            yield run
    except UsageError as error:
        if any(f"does not hold the MLflow run {run_id}" in line for line in error.problems):
            hint = "every launch of a sweep needs the same tracking store (a server, where the machines differ)"
            raise UsageError(*(f"{line}; {hint}" for line in error.problems)) from error
        raise


def command_of(order: Order) -> str:
    """Return the command as a shell takes it, without the database's password."""
    storage = order.settings.storage
    return order.job.command.replace(storage, hidden(storage))


def introduce(this: RunningSweep) -> None:
    """Say what will be searched, and what is there already."""
    order, settings = this.order, this.order.settings
    for parameter in order.space:
        where = f", {parameter.condition} alone" if parameter.needs else ""
        say(f"{parameter.key}: {parameter.grammar}{where}")
    for note in order.notes:
        say(note)
    done = tally(this.study.get_trials(deepcopy=False))["ended"]
    state = "new study" if this.new else f"continues with {done} of {settings.n_trials} trials"
    threads = order.training.threads or process.share_of_cores(settings.n_workers)
    say(
        f"{this.study.study_name}: {state}, {settings.n_workers} workers, CPU threads of each: {threads}, "
        f"{hidden(settings.storage)}; "
        f"run {this.parent.run_id}"
    )


def search(this: RunningSweep) -> None:
    """Let the workers run until the study has all its trials."""
    order = this.order
    how = Search(space=order.space.grammar(), sampler=order.sampler, pruner=order.pruner, reseed=not this.new)
    total = order.settings.n_trials
    run_workers(this, this.study, this.lock, work_order(this, this.study, order.goals, how, total))


def next_commands(this: RunningSweep) -> dict[str, str]:
    """Return the commands that go on from here, by what they do."""
    commands = {"go on with the sweep": command_of(this.order)}
    if this.order.goals.best(this.study.get_trials(deepcopy=False)) is None:
        return commands
    again = best_again(this.folder, this.order.job.own_folder)
    return {"train the best once more": f"{typed('train')} {again}", **commands}


def keep_results(this: RunningSweep) -> None:
    """Write table, plots and the winner into the folder and the MLflow run, whatever state the study is in."""
    link_trials(this.study, this.page)
    commands = next_commands(this)
    describe(this.study, this.order.goals, {"The sweep in MLflow": this.page(this.parent.run_id)}, commands)
    for note in summarize(this.order, this.study, this.parent, this.folder, commands):
        say(note)
    tell_page(this)


def tell_page(this: RunningSweep, tested: Sequence[Mapping[str, float]] = ()) -> None:
    """Describe the sweep in MLflow's pages, with what its winner has reached once it was `tested`."""
    goals, plots = this.order.goals, this.folder / "plots"
    describe_sweep(this.parent, this.study, goals, next_commands(this), plots, tested)


def confirm(this: RunningSweep) -> tuple[list[dict[str, float]], list[str]]:
    """Train the winner again with seeds the search has not seen; return the test metrics of each (validation's where
    the test split is sealed), and their runs.

    That is a second, small study of the same kind, and so survives and is shared among machines just like the first.
    """
    order, settings = this.order, this.order.settings
    best = order.goals.best(this.study.get_trials(deepcopy=False))
    wanted = settings.final_seeds
    if best is None or not wanted:
        return [], []
    first = order.training.seed + settings.seeds
    seeds = range(first, first + wanted)
    sealed = order.training.dataset.sealed
    goals = Goals((Metric.VAL_ACCURACY if sealed else Metric.TEST_ACCURACY,))
    name = f"{this.study.study_name}, winner {best.number}{', sealed' if sealed else ''}"
    study, lock = open_study(settings, name, goals.directions)
    name_goals(study, goals.names)
    with lock.held():
        study.set_user_attr(PARENT_RUN, this.parent.run_id)
        known = {trial.system_attrs.get("fixed_params", {}).get(SEED) for trial in study.get_trials(deepcopy=False)}
        for seed in seeds:
            if seed not in known:
                study.enqueue_trial({SEED: seed})
    requeue_dead(study, lock, settings.retries)
    purpose = "to validate it; the test split is sealed" if sealed else "to test it"
    say(f"training trial {best.number} again with {wanted} seeds, {purpose}")
    chosen = order.space.values(best.params)
    run_workers(this, study, lock, work_order(this, study, goals, None, None, chosen))
    trials = [trial for trial in counted(study.get_trials(deepcopy=False)) if RESULT in trial.user_attrs]
    trials = [trial for trial in trials if trial.params[SEED] in seeds]
    results = [trial.user_attrs[RESULT] for trial in trials]
    record_winner(this.parent, results)
    return results, [trial.user_attrs[RUN] for trial in trials]
