"""Whether a tracking server or a database answers at all: asked once, before a command begins, and told in seconds.

MLflow itself tries a hanging server again for minutes, and a database that is not there ten times.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from cnnlab.errors import UsageError, one_line

SECONDS = 4  # with the seconds that imports take the error is on the screen within ten
REFUSED = {401: "wrong or missing user name and password", 403: "this user is not allowed to"}

Answer = TypeVar("Answer")


def is_server(uri: str) -> bool:
    """Return whether an address is that of a tracking server."""
    return uri.startswith(("http://", "https://"))


def check_reachable(uri: str) -> None:
    """Raise UsageError where the server or database of a tracking address does not answer; files are not asked."""
    if is_server(uri):
        within(uri, lambda: _ask_server(uri), SECONDS)
    elif urlsplit(uri).scheme.split("+")[0] in ("postgresql", "mysql", "mssql"):
        within(uri, lambda: _ask_database(uri), SECONDS)


def within(uri: str, call: Callable[[], Answer], seconds: float) -> Answer:
    """Return what a call to a store returns, or raise what it raises; UsageError where it takes too long.

    The call goes on in its thread then, which ends with the process: nothing else stops every driver, and the search
    for a host's name.
    """
    answers: list[Answer] = []
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            answers.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        raise _away(uri, f"no answer within {seconds:g} seconds")
    return answers[0]


def _ask_server(uri: str) -> None:
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    try:
        answer = http_request(
            get_default_host_creds(uri),
            "/api/2.0/mlflow/experiments/search",
            "GET",
            params={"max_results": 1},
            timeout=SECONDS,
            max_retries=0,
            raise_on_status=False,
        )
    except Exception as error:  # of MLflow, requests and urllib3, each around the other
        raise _away(uri, reason_of(error)) from error
    if answer.status_code in REFUSED:
        raise UsageError(f"tracking.uri={uri!r}: {REFUSED[answer.status_code]} (HTTP {answer.status_code})")
    if answer.status_code != 200:
        raise _away(uri, f"it answers HTTP {answer.status_code}")
    try:
        answer.json()
    except ValueError as error:
        raise UsageError(f"tracking.uri={uri!r} answers, but is no MLflow server") from error


def _ask_database(uri: str) -> None:
    import sqlalchemy

    try:
        with sqlalchemy.create_engine(uri, poolclass=sqlalchemy.pool.NullPool).connect():
            pass
    except Exception as error:  # SQLAlchemy's and its drivers'
        raise UsageError(f"tracking.uri={uri!r} cannot be opened: {one_line(error)}") from error


def _away(uri: str, reason: str) -> UsageError:
    return UsageError(
        f"tracking.uri={uri!r} cannot be reached: {reason}; start the server, or let a training record its run on this "
        "machine with tracking.offline=true"
    )


def reason_of(error: BaseException) -> str:
    """Return what the innermost of nested errors says: those around it repeat the whole address and its retries."""
    text = one_line(error)
    for known in ("Connection refused", "Name or service not known", "timed out", "Network is unreachable"):
        if known in text:
            return known.lower()
    return text.rpartition("(Caused by ")[2].rstrip(")")
