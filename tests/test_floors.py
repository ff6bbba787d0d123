"""No import runs up a floor of the house."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from commands import ROOT

# From top to bottom; a module imports only what stands below it, or its own room. What is not named stands with its
# room, the first part of its name; `cnnlab` itself is the version.
FLOORS = (
    ("train.py", "sweep.py", "evaluate.py", "predict.py", "export.py", "register.py", "diff.py", "compare.py"),
    ("door", "__main__", "cnnlab"),
    ("library",),
    ("verdicts",),
    ("rank", "sweeps", "evaluation", "prediction", "exporting", "registering", "difference"),
    ("ensemble", "kept_split"),
    ("training", "checkpoint"),
    ("resuming",),
    ("like", "beginning", "closing"),
    ("stopping", "ranks", "fused", "meeting", "keeping"),
    ("describing",),
    ("plan",),
    ("descent", "choices", "kept_predictions", "trained_model", "slurm"),
    ("step_times",),
    (
        "classifier",
        "contact",
        "figures",
        "report",
        "doctor",
        "watching",
        "logged_model",
        "formats",
        "weights",
        "networks",
    ),
    ("console", "tracking", "models", "data", "trainer", "optimizers", "measures", "losses", "portable"),
    ("own",),
    ("cli",),
    ("help",),
    ("compose",),
    ("settings", "multirun", "command_line"),
    ("calibration",),
    (
        "metrics",
        "job",
        "options",
        "batch_norm",
        "watchdog",
        "last_checkpoint",
        "kernels",
        "stepping",
        "decoder",
        "beside",
        "epoch_loop",
    ),
    ("lean",),
    (
        "signals",
        "quoting",
        "process",
        "errors",
        "start",
        "own_path",
        "tracking.schema",
        "answering",
        "living",
        "durable",
        "decoding",
        "compiler",
        "hooks",
    ),
)
FLOOR = {room: len(FLOORS) - place for place, rooms in enumerate(FLOORS) for room in rooms}


def room(module: str) -> str:
    """Return the room of a module of the package: 'data' of 'cnnlab.data.batches'."""
    inside = module.removeprefix("cnnlab").lstrip(".")
    return inside if inside in FLOOR else inside.split(".")[0] or "cnnlab"


def imports(code: str) -> Iterator[str]:
    """Yield the modules of the package that the code imports, wherever it does; relative ones begin with a dot."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield "." * node.level + (node.module or "")
        elif isinstance(node, ast.ImportFrom) and node.module == "cnnlab":
            yield from (f"cnnlab.{item.name}" for item in node.names if not item.name.startswith("_"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cnnlab."):
            yield str(node.module)
        elif isinstance(node, ast.Import):
            yield from (item.name for item in node.names if item.name.split(".")[0] == "cnnlab")


def upward(name: str, code: str) -> list[str]:
    """Return the imports of a module that do not go down, and relative ones, which hide where they go."""
    own = room(name)
    return [
        item
        for item in imports(code)
        if item.startswith(".") or (room(item) != own and FLOOR[room(item)] >= FLOOR[own])
    ]


def modules() -> list[tuple[str, Path]]:
    files = sorted((ROOT / "src" / "cnnlab").rglob("*.py"))
    named = [(".".join(file.relative_to(ROOT / "src").with_suffix("").parts), file) for file in files]
    return [(name.removesuffix(".__init__"), file) for name, file in named] + [
        (door, ROOT / door) for door in FLOORS[0]
    ]


@pytest.mark.parametrize(("name", "file"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_no_import_runs_up(name, file):
    assert upward(name, file.read_text()) == []


def test_an_import_that_runs_up_is_seen_wherever_it_hides():
    code = "def load():\n    from cnnlab.tracking import store\n    import cnnlab.plan\n    from cnnlab import errors\n"
    assert upward("cnnlab.data.split", code) == ["cnnlab.tracking", "cnnlab.plan"]
    assert upward("cnnlab.plan", code) == []
    assert upward("cnnlab.plan", "if TYPE_CHECKING:\n    from ..train import fit\n") == ["..train"]
    assert upward("cnnlab.models.mlp", "import cnnlab.data.batches as batches") == ["cnnlab.data.batches"]
    assert upward("cnnlab.settings.base", "from cnnlab.tracking.schema import Tag") == []
