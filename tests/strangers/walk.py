"""A stranger's walk: commands from the documentation, typed in a folder of their own with an empty home."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from commands import ROOT
from documents import commands_in

LONGEST = 300  # seconds a command may take
TRACEBACK = "Traceback (most recent call last)"


@dataclass
class Walk:
    """Types commands and counts the stumbles: a wrong exit code, a traceback, a line that was promised and is missing.

    `folder` is where the stranger is, `home` their empty home, `programs` what stands before the system's own PATH.
    """

    folder: Path
    home: Path
    programs: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    stumbles: list[str] = field(default_factory=list)

    def type(self, command: str, code: int = 0, shows: str = "") -> str:
        """Type a command and return what it said, errors last."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LONGEST,
        )
        said = done.stdout + done.stderr
        if done.returncode != code:
            self.stumbles.append(f"{command}: exit code {done.returncode}: {said[-1500:]}")
        elif TRACEBACK in said:
            self.stumbles.append(f"{command}: {said[-1500:]}")
        elif code == 2 and len(re.sub(r"make: .*\n", "", done.stderr).splitlines()) != 1:
            self.stumbles.append(f"{command}: more than one line: {done.stderr}")
        elif shows not in said:
            self.stumbles.append(f"{command}: says nothing of {shows!r}: {said[-1500:]}")
        return said

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("LANG", "CNNLAB_DATA") if name in os.environ}
        system = [place for place in os.environ["PATH"].split(os.pathsep) if ".venv" not in place]
        path = os.pathsep.join([*filter(None, [self.programs]), *system])
        return kept | {"PATH": path, "HOME": str(self.home), "OMP_NUM_THREADS": "1", "COLUMNS": "80"} | self.variables


def documented(document: str, program: str) -> list[str]:
    """Return the command lines of a document's blocks that begin with `program`, without their comments."""
    return [line for line in commands_in(document) if line.startswith(f"{program} ")]


def python_block(document: str, beginning: str) -> str:
    """Return the Python block of a document that begins so."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL)
    (found,) = [block for block in blocks if block.startswith(beginning)]
    return found


def run_id_in(said: str) -> str:
    """Return the MLflow run that a training's closing block names."""
    return re.findall(r"MLflow run\s+([0-9a-f]{32})", said)[-1]
