"""A store that does not answer is told in one line, before anything is written, and in seconds."""

from __future__ import annotations

import http.server
import socket
import threading

import pytest

from cnnlab.errors import UsageError
from cnnlab.tracking import reach
from cnnlab.tracking.find import open_client
from cnnlab.tracking.store import check_address, prepare
from commands import run


@pytest.fixture
def silent():
    """The port of a listener that takes connections and says nothing, as a stopped server does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def answering(code: int, body: bytes = b"{}"):
    """Return a running web server that answers every question so."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.mark.parametrize("scheme", ["http", "postgresql+psycopg", "mysql"])
@pytest.mark.parametrize("ask", [open_client, lambda uri: prepare(uri, "one")], ids=["open_client", "prepare"])
def test_a_closed_port_is_one_line(scheme, ask):
    with pytest.raises(UsageError) as told:
        ask(f"{scheme}://127.0.0.1:{closed_port()}/db")
    (line,) = told.value.problems
    assert "cannot be reached: connection refused" in line or "cannot be opened: " in line
    assert "\n" not in line


@pytest.mark.parametrize("scheme", ["http", "postgresql+psycopg"])
def test_a_store_that_says_nothing_is_given_up_on(scheme, silent, monkeypatch):
    monkeypatch.setattr(reach, "SECONDS", 0.5)
    with pytest.raises(UsageError, match=r"no answer within 0.5 seconds.*tracking.offline=true"):
        prepare(f"{scheme}://127.0.0.1:{silent}/db", "one")


@pytest.mark.parametrize(
    ("code", "body", "said"),
    [
        (500, b"", "it answers HTTP 500"),
        (404, b"", "it answers HTTP 404"),
        (401, b"", "wrong or missing user name and password"),
        (200, b"<html>", "answers, but is no MLflow server"),
    ],
)
def test_a_server_that_does_not_serve_says_why(code, body, said):
    with answering(code, body) as server, pytest.raises(UsageError, match=said):
        prepare(f"http://127.0.0.1:{server.server_port}", "one")
        server.shutdown()


def test_a_folder_is_no_database(tmp_path):
    (line,) = check_address(f"sqlite:///{tmp_path}")
    assert line.endswith(f"is a folder; name the file in it, such as sqlite:///{tmp_path}/mlflow.db")


def test_a_training_without_its_server_is_refused_and_leaves_nothing(tmp_path):
    server = f"http://127.0.0.1:{closed_port()}"
    done = run(tmp_path, "train.py", "model=dnn", MLFLOW_TRACKING_URI=server)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: tracking.uri='{server}' cannot be reached: connection refused; ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
