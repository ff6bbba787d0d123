"""Measures, prints, keeps what was found as JSON and as Markdown, and writes the pages' figures from what is kept."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType

from benchmarks.machine import ROOT, about, machine

RESULTS = ROOT / "benchmarks" / "results"
ELSEWHERE = Path("outputs/benchmarks")
README = ROOT / "README.md"  # a sentence; all of it stands in PAGE
PAGE = ROOT / "docs" / "measured.md"
BEGIN = "<!-- Written by `make bench` from benchmarks/results: change nothing by hand. -->\n"
END = "<!-- As far as `make bench` writes. -->\n"
NOTHING = "`make bench` has measured nothing here yet."


def run(name: str, module: ModuleType, options: argparse.Namespace, command: str, folder: Path) -> None:
    """Measure, print and keep; a benchmark on a GPU is kept beside that on the CPU, a part of one among the others."""
    where = machine()
    found = {"command": command, "machine": where, **module.measure(options)}
    kept = name if getattr(options, "device", "cpu") == "cpu" else f"{name}_{options.device}"
    earlier = folder / f"{kept}.json"
    if hasattr(module, "joined") and earlier.exists():
        found = module.joined(json.loads(earlier.read_text(encoding="utf-8")), found)
    text = "\n".join([*module.told(found), "", about(found)])
    print(text, flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{kept}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (folder / f"{kept}.md").write_text(f"{text}\n", encoding="utf-8")
    print(f"kept in {folder / kept}.json and .md\n", flush=True)


def figures(modules: Mapping[str, ModuleType], results: Path = RESULTS) -> str:
    """Return what docs/measured.md says of all that was measured."""
    every = found_by(modules, "summary", results)
    parts = ["\n".join([f"## {name}", "", *module.summary(found), "", about(found)]) for name, module, found in every]
    return "\n\n".join(parts or [NOTHING]) + "\n"


def headlines(modules: Mapping[str, ModuleType], results: Path = RESULTS) -> str:
    """Return what README.md says of it."""
    parts = ["\n".join(module.headline(found)) for _, module, found in found_by(modules, "headline", results)]
    return "\n\n".join(parts or [NOTHING]) + "\n"


def found_by(modules: Mapping[str, ModuleType], telling: str, results: Path) -> Iterator[tuple[str, ModuleType, dict]]:
    """Yield name and module of each benchmark that tells so, and what it has found, on the CPU and on a GPU."""
    for name, module in modules.items():
        for file in (results / f"{name}.json", results / f"{name}_gpu.json"):
            if file.exists() and hasattr(module, telling):
                yield name, module, json.loads(file.read_text(encoding="utf-8"))


def block_of(text: str) -> str:
    """Return what stands between the marks."""
    return text.partition(BEGIN)[2].partition(END)[0].strip("\n") + "\n"


def write_pages(modules: Mapping[str, ModuleType]) -> None:
    """Put the figures between the marks of both pages."""
    for page, block in ((README, headlines(modules)), (PAGE, figures(modules))):
        text = page.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        _, _, after = rest.partition(END)
        page.write_text(f"{before}{BEGIN}\n{block}\n{END}{after}", encoding="utf-8")


def changed(module: ModuleType, given: argparse.Namespace, usual: argparse.Namespace) -> bool:
    """Return whether options ask for other than the benchmark, on whatever device, or a part that can be `joined`."""
    free = {"results", "device", "name"} | ({"recipes"} if hasattr(module, "joined") else set())
    ours: Iterable[str] = vars(usual).keys() - free
    return any(getattr(given, key) != getattr(usual, key) for key in ours)
