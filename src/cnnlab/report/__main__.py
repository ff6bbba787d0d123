"""The leaderboard of all tracked runs: python -m cnnlab.report --dataset mnist (see --help)."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from cnnlab import process
from cnnlab.cli import USAGE, print_out, tell
from cnnlab.errors import UsageError, unknown
from cnnlab.report.authors import TARGETS
from cnnlab.start import typed
from cnnlab.tracking.schema import VERSION, Role, Tag
from cnnlab.tracking.store import default_uri, told_errors

if TYPE_CHECKING:
    from cnnlab.report.read import Facts

FINISHED, ALL = "FINISHED", "all"
STATUSES = (FINISHED, "RUNNING", "FAILED", "KILLED", "SCHEDULED", ALL)
FORMATS = (TABLE, MARKDOWN, CSV) = "table", "markdown", "csv"
UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the runs, print the leaderboard and write it as Markdown, CSV and a page; return the exit code."""
    process.set_environment()
    options = parser().parse_args(arguments)
    try:
        since = parse_since(options.since) if options.since else None
        print_out(report(options, since))
    except UsageError as error:
        tell(error.problems)
        return USAGE
    return 0


class Options(argparse.ArgumentParser):
    """argparse, whose own errors are the usage in five lines."""

    def error(self, message: str) -> NoReturn:
        tell([f"{message}; --help lists what there is"])
        sys.exit(USAGE)


def program() -> str:
    """Return how this command is called here."""
    return "cnnlab report" if typed("report") == "cnnlab report" else "python -m cnnlab.report"


def parser() -> argparse.ArgumentParser:
    options = Options(prog=program(), description="Mean and spread over seeds of all runs.")
    options.add_argument("--experiment", metavar="NAME", help="only this MLflow experiment, or this published recipe")
    options.add_argument("--dataset", metavar="NAME", help="only runs on this dataset")
    options.add_argument(
        "--status", metavar="STATUS", default=FINISHED, help=f"{', '.join(STATUSES)} (default {FINISHED})"
    )
    options.add_argument(
        "--since", metavar="WHEN", help="only runs started since a date (2026-01-31) or an age (12h, 7d, 2w)"
    )
    options.add_argument(
        "--recipes", action="store_true", help="only unchanged recipes with an author's number or a goal"
    )
    files = "reports/leaderboard.{}, with another --status reports/leaderboard-STATUS.{}"
    options.add_argument(
        "--format", metavar="FORMAT", help="table, markdown or csv (default table on a terminal, markdown in a pipe)"
    )
    options.add_argument("--output", metavar="FILE", type=Path, help=f"the Markdown ({files.format('md', 'md')})")
    options.add_argument("--csv", metavar="FILE", type=Path, help=f"the table ({files.format('csv', 'csv')})")
    pages = "reports/report.html, with another --status reports/report-STATUS.html"
    options.add_argument("--html", metavar="FILE", type=Path, help=f"the page to sort and filter ({pages})")
    uri = default_uri()
    options.add_argument("--uri", metavar="URI", default=uri, help=f"the tracking store (default {uri})")
    return options


def report(options: argparse.Namespace, since: datetime | None) -> str:
    """Return the leaderboard as Markdown after writing all files; raises UsageError for unknown filters."""
    # Imports MLflow: --help must not wait for it.
    from cnnlab.report.details import details_of, sweeps_of
    from cnnlab.report.leaderboard import make_rows
    from cnnlab.report.ledger import accounts
    from cnnlab.report.page import Content, as_page
    from cnnlab.report.read import read_store
    from cnnlab.report.screen import as_table
    from cnnlab.report.write import as_csv, as_markdown
    from cnnlab.tracking.stale import tell_stale_runs

    found = read_store(options.uri)
    tell_stale_runs(options.uri)
    runs = found.runs
    status = next((name for name in STATUSES if name.lower() == options.status.lower()), None)
    recipes = {run.tags[Tag.EXPERIMENT] for run in runs if Tag.EXPERIMENT in run.tags}
    experiments = {run.experiment for run in runs} | recipes
    problems = [] if status else [unknown("--status", options.status, STATUSES)]
    problems += check("--format", options.format, FORMATS)
    problems += check("--experiment", options.experiment, experiments | set(TARGETS))
    problems += check("--dataset", options.dataset, {run.tags.get(Tag.DATASET) for run in runs} - {None})
    if problems:
        raise UsageError(*problems)
    assert status is not None
    which = "" if status == FINISHED else f"-{status.lower()}"
    options.output = options.output or Path(f"reports/leaderboard{which}.md")
    options.csv = options.csv or Path(f"reports/leaderboard{which}.csv")
    options.html = options.html or Path(f"reports/report{which}.html")
    kept = [
        run
        for run in runs
        if run.tags.get(Tag.ROLE) == Role.SWEEP  # no row of its own; it knows its best trial and its command
        or (
            status in (ALL, run.status)
            and options.experiment in (None, run.experiment, run.tags.get(Tag.EXPERIMENT))
            and options.dataset in (None, run.tags.get(Tag.DATASET))
            and (since is None or run.started >= since.timestamp() * 1000)
        )
    ]
    rows = [row for row in make_rows(kept) if row.target is not None or not options.recipes]
    counted = {run_id for row in rows for run_id in row.run_ids}
    machines = sorted({machine(run.tags) for run in kept if run.run_id in counted} - {""})
    selection = f"{len(counted):,} of {len(runs):,} results and sweeps, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    origin = f"{program()} {shlex.join(given(options))}"
    ledger = [str(account) for account in accounts(found.readings, options.dataset)]
    text = as_markdown(rows, selection, origin, machines, ledger)
    with told_errors(options.uri):
        details, sweeps = details_of(rows, options.uri), sweeps_of(sweeps_above(kept, options), options.uri)
    page = as_page(
        Content(
            rows=rows,
            details=details,
            sweeps=sweeps,
            facts={run.run_id: run for run in kept},
            selection=selection,
            origin=origin,
            machines=machines,
            ledger=ledger,
        )
    )
    for path, content in ((options.output, text), (options.csv, as_csv(rows)), (options.html, page)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}") from error
    how = options.format or (TABLE if sys.stdout.isatty() else MARKDOWN)
    if how == TABLE:
        table = as_table(rows, selection, machines, ledger, shutil.get_terminal_size().columns)
        return f"{table}\n\nto sort, to filter and to look into: {options.html}, in a browser"
    return text if how == MARKDOWN else as_csv(rows).rstrip("\n")


def sweeps_above(runs: Iterable[Facts], options: argparse.Namespace) -> list[Facts]:
    """Return the sweeps among runs that were asked for."""
    return [
        run
        for run in runs
        if run.tags.get(Tag.ROLE) == Role.SWEEP
        and options.dataset in (None, run.tags.get(Tag.DATASET))
        and options.experiment in (None, run.experiment, run.tags.get(Tag.EXPERIMENT))
    ]


def check(option: str, value: str | None, known: Iterable[str | None]) -> list[str]:
    names = sorted(str(name) for name in known)
    return [] if value is None or value in names else [unknown(option, value, names)]


def machine(tags: dict[str, str]) -> str:
    """Return the processor and the version of torch, which decide about speed."""
    torch = tags.get(f"{VERSION}torch")
    parts = [tags.get(Tag.DEVICE_NAME, ""), f"torch {torch}" if torch else ""]
    return ", ".join(part for part in parts if part)


def given(options: argparse.Namespace) -> list[str]:
    """Return the options that select rows, as one writes them."""
    items: list[str] = []
    for name in ("experiment", "dataset", "since"):
        if value := getattr(options, name):
            items += [f"--{name}", value]
    items += ["--status", options.status] if options.status != FINISHED else []
    items += ["--recipes"] if options.recipes else []
    return [*items, "--output", str(options.output)]


def parse_since(text: str) -> datetime:
    """Return the moment of a date, or that long ago; raises UsageError for anything else."""
    if age := re.fullmatch(r"(\d+)([hdw])", text):
        return datetime.now(UTC) - int(age[1]) * UNITS[age[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"--since={text!r} is no date (2026-01-31, 2026-01-31T12:00) and no age (12h, 7d, 2w)"
        ) from None
    return moment.astimezone()


if __name__ == "__main__":
    sys.exit(main())
