"""Deliver what runs have left on this machine: python -m cnnlab.tracking.sync [FOLDER] [tracking.uri=ADDRESS].

Each run's news go to the server it was meant for; those of a run that was recorded offline and has no server yet to
MLFLOW_TRACKING_URI where that is set. FOLDER is mlruns/undelivered unless it is given. Exit code 1 if something waits.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path
from typing import NoReturn

from mlflow.exceptions import MlflowException

from cnnlab import process
from cnnlab.cli import USAGE, tell
from cnnlab.errors import UsageError, hidden
from cnnlab.tracking.delivery import Delivery, now
from cnnlab.tracking.journal import UNDELIVERED, Journal, Kind, journals
from cnnlab.tracking.reach import check_reachable, reason_of
from cnnlab.tracking.schema import Tag

ADDRESS = "tracking.uri="
PAUSE = 0.5  # seconds


def sync(root: Path = UNDELIVERED, uri: str | None = None) -> int:
    """Deliver every journal below a folder, say a line of each; return how many still wait, or are being written."""
    found = journals(root)
    if not found:
        print(f"nothing waits in {root}")
    away: dict[str, str] = {}
    return sum(not deliver(journal, uri, away) for journal in found)


def deliver(journal: Journal, uri: str | None, away: dict[str, str]) -> bool:
    """Deliver one journal and say a line of it; return whether nothing of it waits. `away` are servers out of reach."""
    if not journal.take():
        if journal.folder.exists():
            print(f"{journal.folder.name}: another process is writing or delivering it")
        return not journal.folder.exists()
    try:
        target = uri or address_of(journal)
        name = journal.acknowledged.run_id or journal.folder.name
        before = journal.waiting()
        if target not in away and (problem := problem_of(target)):
            away[target] = problem
        reason = away.get(target) or send(journal, target)
        if reason:
            print(f"{name}: {journal.waiting()} deliveries wait in {journal.folder} ({hidden(reason)})")
            return False
        print(described(journal, name, target, before))
        if not journal.ended:
            return False
        journal.remove()
        return True
    finally:
        journal.release()


def send(journal: Journal, target: str) -> str | None:
    """Deliver all lines, and to a run whose process is gone without a word how it ended; return what hinders it."""
    delivery = Delivery(journal, target)
    try:
        send_all(delivery)
        if not journal.ended and journal.first["host"] == platform.node():  # its process held the folder
            journal.append(Kind.TAGS, texts={str(Tag.INTERRUPTION): "its process is gone"})
            journal.append(Kind.END, status="KILLED", time=now())
            send_all(delivery)
    except UsageError as error:
        return "; ".join(error.problems)
    except (MlflowException, OSError) as error:
        return reason_of(error)
    return None


def send_all(delivery: Delivery) -> None:
    """Deliver what waits; what is refused is tried twice more.

    A server may still be at work on the same lines from a process that was killed, and then refuses them once.
    """
    refusals = 0
    while True:
        try:
            if not delivery.step():
                return
            refusals = 0
        except MlflowException:
            refusals += 1
            if refusals > 2:
                raise
            time.sleep(PAUSE)


def described(journal: Journal, name: str, target: str, before: int) -> str:
    """Return the line about a journal that has arrived."""
    run_id = journal.acknowledged.run_id
    now_named = f"is run {run_id}, " if name != run_id else ""
    state = "" if journal.ended else f"; it has not ended, and is written on {journal.first['host']}"
    return f"{name}: {now_named}{before} deliveries are in {hidden(target)}{state}"


def address_of(journal: Journal) -> str:
    """Return where a journal's news belong."""
    given = os.environ.get("MLFLOW_TRACKING_URI")
    uri = str(journal.first["uri"])
    return given if given and (not journal.acknowledged.run_id or hidden(given) == uri) else uri


def problem_of(uri: str) -> str | None:
    """Return why an address cannot be delivered to at present, if so."""
    if "***@" in uri:
        return f"the password of {uri} is not kept; set MLFLOW_TRACKING_URI to the whole address"
    try:
        check_reachable(uri)
    except UsageError as error:
        return "; ".join(error.problems)
    return None


def main() -> NoReturn:
    """Be the command."""
    process.set_environment()
    arguments = sys.argv[1:]
    if {"--help", "-h"} & set(arguments):
        print(str(__doc__).strip())
        sys.exit(0)
    uris = [item.removeprefix(ADDRESS) for item in arguments if item.startswith(ADDRESS)]
    folders = [Path(item) for item in arguments if not item.startswith(ADDRESS)]
    problems = [f"{folder} is not a folder" for folder in folders if not folder.is_dir()]
    if len(folders) > 1 or len(uris) > 1 or problems:
        tell(problems or ["give one folder and one tracking.uri at most"])
        sys.exit(USAGE)
    sys.exit(int(sync(folders[0] if folders else UNDELIVERED, uris[0] if uris else None) > 0))


if __name__ == "__main__":
    main()
