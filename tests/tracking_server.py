"""A real MLflow server for tests, and a small proxy before it that fails in every way that servers and networks do."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import mlflow

from cnnlab.tracking.schema import Tag
from commands import environment

CLOCKS = ("epoch_seconds", "training_seconds", "train/samples_per_second", "system/")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Server:
    """`mlflow server` over a SQLite file, killed and started again at the same port."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, wait: bool = True) -> None:
        store = f"sqlite:///{self.folder}/server.db"
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", store, "--artifacts-destination", str(self.folder / "artifacts")]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=environment(**quiet), stdout=log, stderr=log, start_new_session=True
            )
        if wait:
            self.wait()

    def wait(self) -> None:
        for _ in range(1200):
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=1):
                    return
            except OSError:
                time.sleep(0.1)
        raise AssertionError((self.folder / "server.log").read_text())

    def kill(self) -> None:
        """End it at once, with its workers."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


class Proxy:
    """Forwards connections to a server, unless its `mode` says otherwise.

    'open' forwards; 'closed' refuses, as a machine without the server; 'silent' takes a request and says nothing, as a
    stopped process; 'error' answers 500; 'deaf' forwards the request and drops the answer: the server has taken it, and
    nobody knows. `delay` comes before each forwarded request.
    """

    def __init__(self, target: int):
        self.target = target
        self.mode = "open"
        self.delay = 0.0
        self.dropped = 0
        self.on_request: Callable[[bytes], None] | None = None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self.listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Handle the requests of one connection, each on a connection of its own to the server."""
        with client:
            try:
                while (request := read_request(client)) is not None:
                    if self.on_request is not None:
                        self.on_request(request)
                    mode = self.mode
                    if mode == "closed":
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # reset
                        return
                    if mode == "silent":
                        while self.mode == "silent":
                            time.sleep(0.05)
                        return
                    if mode == "error":
                        client.sendall(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                        return
                    time.sleep(self.delay)
                    answer = forwarded(request, self.target)
                    if mode == "deaf":
                        self.dropped += 1
                        return
                    client.sendall(answer)
                    return  # one request a connection keeps this simple
            except OSError:
                return


def read_request(client: socket.socket) -> bytes | None:
    """Return a whole request: its head and, as its length says or in chunks, its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = client.recv(65536)
        if not part:
            return None
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        while not body.endswith(b"0\r\n\r\n"):
            body += client.recv(65536)
    elif b"content-length:" in lower:
        length = int(lower.partition(b"content-length:")[2].split(b"\r\n")[0])
        while len(body) < length:
            body += client.recv(65536)
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith((b"connection:", b"expect:"))]
    return b"\r\n".join([*lines, b"Connection: close", b"", b""]) + body


def forwarded(request: bytes, port: int) -> bytes:
    """Return a server's whole answer."""
    with socket.create_connection(("127.0.0.1", port), 30) as server:
        server.sendall(request)
        answer = b""
        while part := server.recv(65536):
            answer += part
    return answer


def contents(uri: str, run_id: str, timed: bool = True) -> dict[str, object]:
    """Return everything that a store holds of a run."""
    client = mlflow.MlflowClient(uri)
    found = client.get_run(run_id)
    history = {
        name: [
            (entry.step, repr(entry.value), *([entry.timestamp] if timed else []))
            for entry in sorted(client.get_metric_history(run_id, name), key=lambda item: (item.step, item.timestamp))
        ]
        for name in found.data.metrics
        if timed or not name.startswith(CLOCKS)
    }
    return {
        "status": found.info.status,
        "parameters": found.data.params,
        "tags": {key: value for key, value in found.data.tags.items() if key not in (Tag.RECORDED, Tag.PROCESS)},
        "history": history,
        "data": [item.dataset.digest for item in found.inputs.dataset_inputs],
        "models": len(found.outputs.model_outputs) if found.outputs else 0,
        "files": dict(sorted(files(client, run_id))),
    }


def files(client: mlflow.MlflowClient, run_id: str, folder: str | None = None):
    for item in client.list_artifacts(run_id, folder):
        if item.is_dir:
            yield from files(client, run_id, item.path)
        else:
            yield item.path, item.file_size
