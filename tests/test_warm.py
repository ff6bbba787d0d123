"""A process that was started warm is to its starter, to its own children and to the system what any other is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest

import warm
from commands import environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes start as ever here")

TELLS = """
import json, os, sys
print("to stderr", file=sys.stderr)
told = {"arguments": sys.argv, "folder": os.getcwd(), "pid": os.getpid(), "parent": os.getppid(), "here": sys.path[0]}
told |= {"variable": os.environ.get("SOME"), "read": sys.stdin.read(), "warm": "torch" in sys.modules}
told |= {"session": os.getsid(0), "main": __name__, "file": globals().get("__file__")}
print(json.dumps(told))
sys.exit(7)
"""
# A child of a child; each says whose it is.
NESTS = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import os, sys; print(os.getppid(), 'torch' in sys.modules)"],
                         stdout=subprocess.PIPE, text=True)
print(os.getpid(), *child.communicate()[0].split(), child.returncode)
"""


def python(*words: str, **options: object) -> subprocess.Popen[str]:
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen([sys.executable, *words], text=True, env=environment(SOME="thing"), **pipes, **options)


@pytest.mark.parametrize("how", ["-c", "-m", "script"])
def test_it_has_its_arguments_pipes_folder_variables_and_is_a_child(tmp_path, how):
    (tmp_path / "tells.py").write_text(TELLS)
    script = str(tmp_path / "tells.py")
    words = {"-c": ["-c", TELLS], "-m": ["-m", "tells"], "script": [script]}[how]
    process = python(*words, "a", "b c", cwd=tmp_path, start_new_session=True)
    said, errors = process.communicate("said to it")
    assert (process.returncode, errors) == (7, "to stderr\n")
    first = "-c" if how == "-c" else script
    assert json.loads(said) == {
        "arguments": [first, "a", "b c"],
        "folder": str(tmp_path),
        "pid": process.pid,
        "parent": os.getpid(),
        "here": "" if how == "-c" else str(tmp_path),
        "variable": "thing",
        "read": "said to it",
        "warm": True,
        "session": process.pid,
        "main": "__main__",
        "file": None if how == "-c" else script,
    }


def test_signals_reach_it_and_its_name_is_what_it_runs():
    process = python("-c", "import time; print('there', flush=True); time.sleep(60)")
    assert process.stdout.readline() == "there\n"
    assert psutil.Process(process.pid).cmdline()[:2] == [sys.executable, "-c"]
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGINT and errors.endswith("KeyboardInterrupt\n")
    process = python("-c", "import time; print('there', flush=True); time.sleep(60)")
    assert process.stdout.readline() == "there\n"
    process.kill()
    assert process.wait() == -signal.SIGKILL


def test_its_own_processes_are_its_children_and_warm():
    process = python("-c", NESTS)
    own, parent, is_warm, code = process.communicate()[0].split()
    assert (own, is_warm, code) == (parent, "True", "0")
    assert int(own) == process.pid


def test_a_fault_is_a_traceback_without_what_started_it():
    process = python("-c", "def fail():\n    raise ValueError('wrong')\nfail()")
    _, errors = process.communicate()
    assert process.returncode == 1
    assert errors.splitlines()[1] == '  File "<string>", line 3, in <module>' and "forked" not in errors


@pytest.mark.cold
def test_one_that_is_marked_cold_has_imported_nothing():
    process = python("-c", "import sys; print('torch' in sys.modules)")
    assert process.communicate()[0] == "False\n"


def test_what_is_read_when_python_starts_makes_it_start_as_ever():
    line = "import os, sys; print('torch' in sys.modules, os.environ['LC_ALL'])"
    done = subprocess.run([sys.executable, "-c", line], env=environment(LC_ALL="C"), capture_output=True, text=True)
    assert done.stdout == "False C\n"
    assert warm.early({"LC_ALL": "C", "PYTHONPATH": "x", "PYTHONHASHSEED": "0", "SOME": "1"}) == {
        "LC_ALL": "C",
        "PYTHONHASHSEED": "0",
    }
