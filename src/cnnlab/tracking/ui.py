"""MLflow's pages over the tracked runs: python -m cnnlab.tracking.ui [PORT].

A missing database is created first, under a lock: MLflow's own creation breaks when a training run creates it too. In
one process with the server, since importing MLflow twice would double the wait.
"""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from cnnlab import process
from cnnlab.cli import USAGE, tell
from cnnlab.errors import UsageError, hidden
from cnnlab.start import typed
from cnnlab.tracking.reach import is_server
from cnnlab.tracking.store import default_uri, prepare, settle, sqlite_file

if TYPE_CHECKING:
    from cnnlab.tracking.pages import Application

HOST = "127.0.0.1"


def serve(port: str) -> None:
    """Serve the store of MLFLOW_TRACKING_URI, or mlruns/, until interrupted; with a server there, say where it is."""
    uri = default_uri()
    if is_server(uri):
        print(f"the runs are on a tracking server: open {hidden(uri)}")
        return
    check_port(port)
    file = sqlite_file(uri)
    if file is None or not file.exists():
        prepare(uri, "digits")
    settle(uri)
    from cnnlab.tracking.pages import Pages, application, page_of_runs

    pages = application(uri)
    address = f"http://{HOST}:{port}"
    if not isinstance(pages, Pages):
        address += f"/{page_of_runs(latest_experiment(uri))}"
    run(pages, int(port), address)


def run(pages: Application, port: int, address: str) -> None:
    """Serve until interrupted, and print the address, alone, once it answers."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                print(address, flush=True)

    # A page that is open asks again and again; nobody waits for its connection to end.
    config = uvicorn.Config(pages, host=HOST, port=port, log_level="warning", timeout_graceful_shutdown=1)
    with suppress(KeyboardInterrupt):  # which uvicorn raises again when it has stopped
        Server(config).run()


def latest_experiment(uri: str) -> str:
    """Return the experiment of the latest run, or the latest experiment where there is no run."""
    import mlflow

    client = mlflow.MlflowClient(uri)
    experiments = [item.experiment_id for item in client.search_experiments()]
    runs = client.search_runs(experiments, max_results=1)
    return str(runs[0].info.experiment_id if runs else experiments[0])


def check_port(port: str) -> None:
    """Raise UsageError for what is no port, and for one that another program has."""
    if not (port.isdigit() and 0 < int(port) < 2**16):
        raise UsageError(f"PORT={port!r} is not allowed; PORT takes a whole number of at least 1 and at most 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that was closed just now is free
        try:
            probe.bind((HOST, int(port)))
        except OSError as error:
            another = typed("ui") + (" PORT=5001" if typed("ui").startswith("make") else " 5001")
            raise UsageError(f"PORT={port} cannot be used ({error.strerror}); take another: {another}") from error


def main() -> NoReturn:
    """Be the command: its argument is the port."""
    process.set_environment(server=True)
    try:
        serve(sys.argv[1] if len(sys.argv) > 1 else "5000")
    except UsageError as error:
        tell(error.problems)
        sys.exit(USAGE)
    sys.exit(0)


if __name__ == "__main__":
    main()
