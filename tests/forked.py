"""The warm process of warm.py, and what its forks do to be the program that was asked for."""

from __future__ import annotations

import atexit
import builtins
import ctypes
import gc
import importlib
import importlib.util
import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import warm

# The commands, and what they import on their way: a fork would import it each time.
PRELOADED = (
    *(
        "cnnlab.training",
        "cnnlab.evaluation",
        "cnnlab.prediction",
        "cnnlab.exporting",
        "cnnlab.difference",
        "cnnlab.registering",
    ),
    *("cnnlab.sweeps.run", "cnnlab.verdicts.run", "alembic.command", "git", "IPython.core.interactiveshell"),
    *("matplotlib.backends.backend_agg", "mlflow.pyfunc.scoring_server", "mlflow.pyfunc.loaders.responses_agent"),
    *("mlflow.store.tracking.sqlalchemy_workspace_store", "networkx", "PIL.JpegImagePlugin"),
    *("sklearn.datasets", "sklearn.model_selection", "torch._inductor.codecache", "torch.export._trace"),
    *("cnnlab.decoder", "cnnlab.logged_model", "cnnlab.rank", "cnnlab.report.__main__", "cnnlab.sweeps.contest"),
    *("cnnlab.sweeps.together", "cnnlab.sweeps.trial", "cnnlab.sweeps.winner", "cnnlab.sweeps.worker"),
    *("cnnlab.tracking.sync", "fsspec.implementations.chained", "hydra._internal.core_plugins.basic_launcher"),
    *("mlflow.pytorch", "mlflow.tracing.processor.base_mlflow", "optuna.visualization._plotly_imports"),
    *("plotly.graph_objects", "plotly.subplots", "pyarrow.pandas_compat", "sympy.combinatorics", "torch._inductor.ir"),
    *("torch.distributed.run", "torch.fx.experimental.validator", "torch.utils.serialization"),
)
SOURCE = str(Path(__file__).resolve().parents[1] / "src")
_plain_path: list[str] = []  # where a fork finds modules, beside its own folder and PYTHONPATH


def main() -> NoReturn:
    """Import what all commands need, then fork for every order that comes."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    listed = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    _plain_path.extend([SOURCE, *(place for place in sys.path[1:] if place not in listed)])
    # The code beside these tests, as pytest's own `pythonpath`, whatever checkout the environment was installed from.
    sys.path.insert(0, SOURCE)
    for module in PRELOADED:
        with suppress(ImportError):  # what is not installed here
            __import__(module)
    from mlflow.store.db.utils import _initialize_tables

    import copied_stores

    copied_stores.copy_stores()
    copied_stores.made(_initialize_tables)
    rehearse()
    gc.collect()
    gc.freeze()
    serve(connection)


def rehearse() -> None:
    """Do what each command does, and what is the same ever after: parse a command line, look at what is installed."""
    from cnnlab.tracking import database, provenance
    from commands import settings

    settings("model=dnn", "trainer.max_epochs=1")
    provenance.environment()
    provenance.processor()
    database.newest_revision()


def serve(connection: socket.socket) -> NoReturn:
    """Fork for each order, until nobody is left who could give one."""
    for number in warm.SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    for file in range(3):
        os.dup2(os.open(os.devnull, os.O_RDWR), file)
    while True:
        text, files, _, _ = socket.recv_fds(connection, warm.LARGEST, 3)
        if not text:
            os._exit(0)
        # The orphan of a process that ends at once is given to the one that asks: its child, as any other.
        between = os.fork()
        if between == 0:
            parent = os.getpid()
            if os.fork() == 0:
                be(json.loads(text), files, connection, parent)
            os._exit(0)
        os.waitpid(between, 0)
        for file in files:
            os.close(file)


def be(order: dict, files: list[int], connection: socket.socket, parent: int) -> NoReturn:
    """Become the program of an order."""
    while os.getppid() == parent:
        time.sleep(0.0005)
    environment = order["environment"]
    for number in warm.SIGNALS:
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in order["ignored"] else usual)
    if order["session"]:
        os.setsid()
    elif order["group"] >= 0:
        os.setpgid(0, order["group"])
    successor = begin_own(connection, files, environment)
    connection.send(str(os.getpid()).encode())
    connection.close()
    for place, file in enumerate(files):
        os.dup2(file, place)
    for file in files:
        os.close(file)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(environment)
    name_process(order["words"])
    unbuffered = order["unbuffered"] or bool(environment.get("PYTHONUNBUFFERED"))
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=unbuffered or stream is sys.stderr)
    tempfile.tempdir = None  # read again from the environment
    equip(environment)
    code = run(order["how"], order["what"], order["arguments"])
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    if successor:
        warm.own().connection.close()
        os.waitpid(successor, 0)
    os._exit(code)


def begin_own(connection: socket.socket, files: list[int], environment: dict[str, str]) -> int:
    """Begin a warm process of this one's own, while this one is as new as what it forks has to be; return its pid."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    successor = os.fork()
    if successor == 0:
        ours.close()
        connection.close()
        for file in files:
            os.close(file)
        serve(theirs)
    theirs.close()
    warm.follow(ours, environment)
    return successor


def equip(environment: dict[str, str]) -> None:
    """Have the threads, the random numbers and the width that a new process has."""
    import numpy
    import torch

    from cnnlab import process
    from cnnlab.console import console

    wanted = environment.get("OMP_NUM_THREADS", "")
    threads = int(wanted) if wanted.isdigit() else len(os.sched_getaffinity(0))
    if threads != torch.get_num_threads():
        torch.set_num_threads(threads)
    numpy.random.seed()
    if "PYTEST_XDIST_WORKER_COUNT" in environment:  # it is none of the test processes itself, and started by one
        share = warm.cores()
        process.available_cores = lambda: share
    columns = environment.get("COLUMNS", "")
    console._width = int(columns) if columns.isdigit() else None


def name_process(words: list[str]) -> None:
    """Let the system show the command line of what this process has become."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begin, end = int(fields[45]), int(fields[46])  # of the arguments, as proc(5) counts them from the third on
    text = b"\0".join(map(os.fsencode, words))[: end - begin - 1]
    ctypes.memset(begin, 0, end - begin)
    ctypes.memmove(begin, text, len(text))


def run(how: str, what: str, arguments: list[str]) -> int:
    """Run a script, or with -m a module or with -c lines, as Python does; return the exit code."""
    places = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    first = {"-c": "", "-m": str(Path.cwd())}.get(how, str(Path(what).resolve().parent))
    sys.path[:] = [first, *places, *_plain_path]
    importlib.invalidate_caches()
    sys.argv = [how or what, *arguments]
    main = ModuleType("__main__")
    vars(main)["__builtins__"] = builtins
    try:
        if how == "-c":
            code = compile(what, "<string>", "exec", dont_inherit=True)
        elif how == "-m":
            code = code_of_module(what, main)
            sys.argv[0] = main.__file__
        else:
            main.__file__ = what
            code = compile(Path(what).read_bytes(), what, "exec", dont_inherit=True)
        sys.modules["__main__"] = main
        exec(code, vars(main))
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 0xFF
        print(end.code, file=sys.stderr)
        return 1
    except BaseException as error:
        shown = error.__traceback__.tb_next  # without this frame
        sys.excepthook(type(error), error.with_traceback(shown), shown)
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        return 1
    return 0


def code_of_module(name: str, main: ModuleType):
    """Return the code that `python -m` runs, and let the main module say where it is from."""
    with suppress(ModuleNotFoundError):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
        if spec is not None:
            main.__spec__, main.__package__, main.__loader__ = spec, spec.parent, spec.loader
            main.__file__ = spec.origin
            return spec.loader.get_code(spec.name)
    raise SystemExit(f"{sys.executable}: No module named {name}")
