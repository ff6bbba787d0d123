"""Starts Python processes as forks of a warm one: real children, with pids, pipes and signals, without their imports.

Importing torch, Lightning and MLflow takes seconds of each process, and hardly a test is about them. After `begin`,
`subprocess` starts this interpreter's scripts, modules and lines so, here and in all processes that are started so: a
sweep's workers, a training's other processes. Whatever a fork cannot be starts as ever: other programs, what a terminal
shows, what is given variables that Python and the libraries read when they are loaded. So do tests marked `cold`.
"""

from __future__ import annotations

import ctypes
import inspect
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from cnnlab.process import ENVIRONMENT, available_cores

EARLY = re.compile(r"PYTHON(?!PATH$|UNBUFFERED$)|LD_|LC_|LANG$|HOME$|TERM$|NO_COLOR$")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LARGEST = 128 * 1024  # bytes of an order
ADOPT = 36  # PR_SET_CHILD_SUBREAPER of prctl(2)
ROOM = " " * 2000  # what a process' command line may be as long as
UNLIKE = ("preexec_fn", "pass_fds", "shell", "gid", "gids", "uid")  # what `subprocess` may be asked for beyond a fork
PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
CHILDS = ("p2cread", "c2pwrite", "errwrite")  # of them, in the order of its files
LINES = "import forked; forked.main()"  # of a warm process, by which others tell it

execute_cold = subprocess.Popen._execute_child
parameters = inspect.signature(execute_cold)


class Warm:
    """The other end of this process' warm one, a child that forks on request."""

    def __init__(self, connection: socket.socket, variables: dict[str, str]):
        self.connection = connection
        self.early = early(variables)
        self.owner = os.getpid()
        self.lock = threading.Lock()

    def fork(self, order: bytes, files: list[int]) -> int:
        """Return the pid of a new child that does what is ordered, with these as its standard input and outputs."""
        with self.lock, undisturbed(), adopting():
            socket.send_fds(self.connection, [order], files)
            return int(self.connection.recv(20))


_own: Warm | None = None  # of this process
_beginning = False  # it is started as soon as it is needed
_starting = threading.Lock()


def environment(**variables: str) -> dict[str, str]:
    """Return this process' environment without what would change where runs go, on one thread for speed."""
    kept = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return kept | {"OMP_NUM_THREADS": "1", "COLUMNS": "120"} | variables


def cores() -> int:
    """Return how many cores a process that is started takes for its own: its share among the test processes.

    Threads on cores that others use, too, would wait for each other.
    """
    sharing = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) if sys.platform == "linux" else 1
    return max(1, available_cores() // sharing)


def begin() -> None:
    """Let `subprocess` start warm processes from now on."""
    global _beginning
    if sys.platform == "linux":  # where an orphan can be given to a process
        _beginning = True
        subprocess.Popen._execute_child = execute


def follow(connection: socket.socket, variables: dict[str, str]) -> None:
    """Let `subprocess` fork from a warm process that there is."""
    global _own
    _own = Warm(connection, variables)
    subprocess.Popen._execute_child = execute


@contextmanager
def cold() -> Iterator[None]:
    """Let every process inside the block start as ever, with nothing imported."""
    before, subprocess.Popen._execute_child = subprocess.Popen._execute_child, execute_cold
    try:
        yield
    finally:
        subprocess.Popen._execute_child = before


def own() -> Warm | None:
    """Return this process' warm one, which is started now where there is none; a fork of this process has none."""
    global _own
    with _starting:
        if _own is None and _beginning:
            variables = environment(**ENVIRONMENT)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            lines = f"import sys; sys.path[0] = {str(Path(__file__).parent)!r}; {LINES}"
            with cold():
                subprocess.Popen(
                    [sys.executable, "-c", lines, str(theirs.fileno()), ROOM],
                    env=variables,
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                ).returncode = 0  # nobody waits for it: it ends with this process
            theirs.close()
            _own = Warm(ours, variables)
    return _own if _own is not None and _own.owner == os.getpid() else None


def is_warm(process: psutil.Process) -> bool:
    """Return whether a process only waits for orders to fork; there is one beside each that was started warm."""
    return LINES in " ".join(process.cmdline())


def execute(process: subprocess.Popen, *given: object) -> None:
    """Start a process for `subprocess`: as a fork where one is the same to those who look at it."""
    wanted = parameters.bind(process, *given).arguments
    order = order_of(wanted)
    source = own() if order is not None else None
    files = [wanted[pipe] if wanted[pipe] >= 0 else at for at, pipe in enumerate(CHILDS)]
    if order is None or source is None or early(order["environment"]) != source.early or any(map(os.isatty, files)):
        execute_cold(process, *given)
        return
    text = json.dumps(order).encode()
    if len(text) > LARGEST:
        execute_cold(process, *given)
        return
    process.pid = source.fork(text, files)
    process._child_created = True
    process._close_pipe_fds(*(wanted[pipe] for pipe in PIPES))


def order_of(wanted: dict) -> dict | None:
    """Return what a fork is told, None for what is none of this interpreter's programs or asks for what no fork has."""
    words = wanted["args"]
    if isinstance(words, str | bytes | os.PathLike) or any(wanted[name] for name in UNLIKE) or wanted["umask"] >= 0:
        return None
    words = [os.fspath(word) for word in words]
    if words[0] != sys.executable or not all(isinstance(word, str) for word in words):
        return None
    unbuffered = words[1:2] == ["-u"]
    told = words[1 + unbuffered :]
    how = told.pop(0) if told[:1] in (["-c"], ["-m"]) else ""
    folder = wanted["cwd"] or Path.cwd()
    if not told or (not how and not told[0].endswith(".py")) or not Path(folder).is_dir():
        return None
    if not how and not Path(folder, told[0]).is_file():
        return None
    return {
        "how": how,
        "what": told[0],
        "arguments": told[1:],
        "words": words,
        "unbuffered": unbuffered,
        "folder": os.fspath(folder),
        "environment": dict(os.environ if wanted["env"] is None else wanted["env"]),
        "session": wanted["start_new_session"],
        "group": wanted["process_group"],
        "ignored": [int(number) for number in SIGNALS if signal.getsignal(number) is signal.SIG_IGN],
    }


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold signals back inside the block: what would be raised there would leave an answer unread."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def early(variables: dict[str, str]) -> dict[str, str]:
    """Return the variables that are read when Python and the libraries are loaded."""
    return {name: value for name, value in variables.items() if EARLY.match(name)}


@contextmanager
def adopting() -> Iterator[None]:
    """Be the one whom orphans among this process' descendants are given to, inside the block."""
    control = ctypes.CDLL(None).prctl
    control(ADOPT, 1, 0, 0, 0)
    try:
        yield
    finally:
        control(ADOPT, 0, 0, 0, 0)
