"""What a sweep says on the screen while it runs: a table that stays in place, or one line a finished trial."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from optuna.trial import FrozenTrial, TrialState
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from cnnlab.console import console, say
from cnnlab.settings.sweep import Sweep
from cnnlab.sweeps.goals import Goals
from cnnlab.sweeps.storage import CONTINUES, superseded
from cnnlab.sweeps.study import DUPLICATE, REASON, is_infeasible


class View:
    """Shows the trials of a study as they come and go; use it with `with`."""

    def __init__(self, title: str, goals: Goals, total: int, trials: Sequence[FrozenTrial]):
        self.title = title
        self.goals = goals
        self.total = total
        self.started = time.monotonic()
        self.shown = {trial.number for trial in trials if trial.state.is_finished()}
        self.done = self.before = tally(trials)["ended"]
        self.live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None

    def __enter__(self) -> View:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live:
            self.live.stop()

    def update(self, trials: Sequence[FrozenTrial]) -> bool:
        """Show the trials as they are now; return whether one ended since the last call."""
        ended = [trial for trial in trials if trial.state.is_finished() and trial.number not in self.shown]
        gone = superseded(trials)
        for trial in ended:
            self.shown.add(trial.number)
            if trial.number not in gone:
                self.done += 1
                say(f"{self.line(trial)}  [{self.done}/{self.total}]")
        if self.live:
            self.live.update(self.table(trials))
        return bool(ended)

    def line(self, trial: FrozenTrial) -> str:
        """Return one line about a finished trial."""
        what = state_of(trial)
        if trial.state == TrialState.FAIL:
            what = f"failed: {trial.user_attrs.get(REASON, 'its process died')}"
        elif is_infeasible(trial):
            what += f": {trial.user_attrs[REASON]}"
        elif trial.values:
            what += "".join(
                f"  {name} {number(value)}" for name, value in zip(self.goals.names, trial.values, strict=False)
            )
        if DUPLICATE in trial.user_attrs:
            what += f"  (same parameters as trial {trial.user_attrs[DUPLICATE]}, not trained again)"
        if CONTINUES in trial.user_attrs:
            what += f"  (goes on with trial {trial.user_attrs[CONTINUES]})"
        return f"trial {trial.number} {what}  {parameters(trial.params)}"

    def table(self, trials: Sequence[FrozenTrial]) -> Table:
        counts = tally(trials)
        rows = Table.grid(padding=(0, 2))
        rows.add_column(style="bold")
        rows.add_column()
        rows.add_row("sweep", self.title)
        rows.add_row("", ProgressBar(total=self.total, completed=counts["ended"], width=60))
        rows.add_row("trials", ", ".join(f"{counts[name]} {name}" for name in SHOWN))
        best = self.goals.best(trials)
        if best is not None:
            line = f"{self.goals.metric} {number(best.values[0])}, trial {best.number}{cut_short(best)}"
            rows.add_row("best", line)
            rows.add_row("", parameters(best.params))
        rows.add_row("time left", self.left())
        return rows

    def left(self) -> str:
        """Return how long the rest will take if it goes on as it did since this launch."""
        ended, remaining = self.done - self.before, self.total - self.done
        if ended < 1:
            return "not known yet"
        return duration((time.monotonic() - self.started) / ended * remaining)


ENDED = ("complete", "pruned", "infeasible", "failed")
SHOWN = ("complete", "running", "pruned", "failed")


def tally(trials: Sequence[FrozenTrial]) -> Counter[str]:
    """Return how many trials are in each state, such as complete or waiting; `ended` is all that count as done."""
    gone = superseded(trials)
    counts = Counter(state_of(trial) for trial in trials if trial.number not in gone)
    counts["ended"] = sum(counts[name] for name in ENDED)
    return counts


def state_of(trial: FrozenTrial) -> str:
    """Return a trial's state in a word: to Optuna one whose network costs too much is pruned as well."""
    if trial.state == TrialState.FAIL:
        return "failed"
    return "infeasible" if is_infeasible(trial) else trial.state.name.lower()


def deadline_line(settings: Sweep, trials: Sequence[FrozenTrial]) -> str:
    """Return what is said when the time of a launch is up, and how to go on."""
    counts = tally(trials)
    done = f"{counts['ended']} of {settings.n_trials} trials are done"
    going = f"; {counts['running']} under way are queued again" if counts["running"] else ""
    return f"sweep.minutes={settings.minutes:g} have passed, {done}{going}: the same command continues"


def cut_short(trial: FrozenTrial) -> str:
    """Return what is to be said of a best trial that did not run to its end."""
    return f", pruned after epoch {trial.last_step}" if trial.state == TrialState.PRUNED else ""


def parameters(values: Mapping[str, object]) -> str:
    """Return parameters as one writes them on the command line."""
    return " ".join(f"{key}={number(value)}" for key, value in values.items())


def number(value: object) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else f"{value:.4g}"
    return str(value).replace(" ", "")


def duration(seconds: float) -> str:
    """Return a time span in the unit one would say it in."""
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def mean_and_spread(values: Sequence[float]) -> str:
    """Return `mean ± standard deviation` of the values, or the one value."""
    mean = f"{statistics.fmean(values):.4f}"
    return f"{mean} ± {statistics.stdev(values):.4f} (n={len(values)})" if len(values) > 1 else f"{mean} (n=1)"
