"""A warm process that runs the project's commands in forks of itself: processes like any other, without their imports.

Importing torch, Lightning and MLflow takes seconds, and most tests of a command are about what it does afterwards. The
real start of a process is tested where it matters: by the tests that signal, race or kill it.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LONGEST = 300  # seconds a command may take before it is killed
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
)


class Warm:
    """The parent's end: starts the warm process and asks it for one command after the other."""

    def __init__(self, environment: dict[str, str]):
        self.process = subprocess.Popen(
            [sys.executable, __file__], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(
        self,
        arguments: list[str],
        folder: Path,
        environment: dict[str, str],
        stop: tuple[int, str, float] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run `door override...` in `folder` and return what it said.

        `stop` is a signal, the pattern of a file in `folder`, and the seconds after it is there at which the signal
        comes.
        """
        with tempfile.TemporaryDirectory() as outputs:
            order = {"arguments": arguments, "folder": str(folder), "environment": environment, "outputs": outputs}
            order["stop"] = stop
            print(json.dumps(order), file=self.process.stdin, flush=True)
            code = int(self.process.stdout.readline())
            said = [Path(outputs, name).read_text() for name in ("stdout", "stderr")]
        return subprocess.CompletedProcess(arguments, code, *said)


def serve() -> None:
    """Import what all commands need, then fork for each line of standard input and tell its exit code."""
    for module in PRELOADED:
        __import__(module)
    from mlflow.store.db.utils import _initialize_tables

    import copied_stores

    copied_stores.copy_stores()
    copied_stores.made(_initialize_tables)
    answers = os.dup(1)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            os._exit(execute(order))
        if order.get("stop"):
            send(child, Path(order["folder"]), *order["stop"])
        _, status = os.waitpid(child, 0)
        os.write(answers, f"{os.waitstatus_to_exitcode(status)}\n".encode())


def send(child: int, folder: Path, number: int, pattern: str, seconds: float) -> None:
    """Send a signal to the child some seconds after a file is there, unless it has ended by then."""
    while not any(folder.glob(pattern)) and ended(child) is None:
        time.sleep(0.002)
    until = time.monotonic() + seconds
    while time.monotonic() < until and ended(child) is None:
        time.sleep(0.002)
    if ended(child) is None:
        os.kill(child, number)


def ended(child: int) -> object:
    """Return what is known of a child that has ended and has not been waited for; None while it runs."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)


def execute(order: dict) -> int:
    """Become the command; return its exit code."""
    signal.alarm(LONGEST)
    for number, name in enumerate(("stdout", "stderr"), start=1):
        file = os.open(Path(order["outputs"], name), os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    door, *overrides = order["arguments"]
    sys.argv = [door, *overrides]
    sys.path.insert(0, str(Path(door).parent))
    for place in reversed(os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        if place:
            sys.path.insert(0, place)
    code = 0
    try:
        runpy.run_path(door, run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    # The code beside these tests, as pytest's own `pythonpath`, whatever checkout the environment was installed from.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
    serve()
