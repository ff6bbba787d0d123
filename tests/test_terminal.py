"""What stands on a real terminal of 80 columns: nothing is cut, and only links and commands are longer."""

from __future__ import annotations

import io
import re
import sys
import time
from types import SimpleNamespace

import pytest
from rich.cells import cell_len
from rich.console import Console

from cnnlab import console
from cnnlab.console import EpochBar
from commands import ROOT, command
from terminal import on_terminal
from test_training import QUICK

WHOLE = re.compile(r"(https?://|^import mlflow|^\d+\. python |^/)")  # links, commands and paths, to be copied


def too_long(lines: list[str]) -> list[str]:
    return [line for line in lines if cell_len(line) > 80 and not WHOLE.search(line)]


@pytest.mark.slow
def test_a_training_fits(tmp_path):
    code, lines = on_terminal(
        tmp_path, command("train.py", *QUICK[:2], "trainer.max_epochs=2", "figures.enabled=false")
    )
    assert code == 0, "\n".join(lines)
    assert too_long(lines) == []
    (at,) = [place for place, line in enumerate(lines) if line.startswith("╭─ result ")]
    rows = lines[at + 1 :]
    assert any(re.match(r"│ test/acc +0\.\d{4} +│$", line) for line in rows)
    assert sum(line.startswith("epoch ") and "val/loss" in line for line in lines) == 2
    link = rows[rows.index("open it") + 1]
    assert "http://127.0.0.1:5000/#/experiments/" in link and link.endswith("workflowType=machine_learning")


def test_the_bar_of_a_long_training_fits_and_tells_how_long_all_epochs_take_at_most():
    bar, trainer = EpochBar(), SimpleNamespace(current_epoch=2, max_epochs=30, num_training_batches=1875)
    assert bar.left(trainer, 0) == "", "nobody knows before an epoch has ended"
    bar.began = time.monotonic() - 600, 0
    assert bar.left(trainer, 0) == "≤ 2.3 h", "five minutes an epoch, 28 to go"
    bar.progress.add_task(
        "epoch 123/300", total=1875, completed=1874, metrics="loss 0.1234 acc 0.9876", left="≤ 120 min"
    )
    screen = Console(width=80, file=io.StringIO(), record=True)
    screen.print(bar.progress.get_renderable())
    (line,) = screen.export_text().splitlines()
    assert line.rstrip().endswith("loss 0.1234 acc 0.9876 ≤ 120 min")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_sentence_is_wrapped_between_words_on_a_terminal_and_whole_in_a_pipe(terminal, monkeypatch):
    sentence, screen = "trial 7 complete  " + 6 * "model.hidden_units=[512] ", io.StringIO()
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(console, "console", Console(width=80, file=screen, force_terminal=terminal, highlight=False))
    console.say(sentence)
    lines = screen.getvalue().splitlines()
    assert len(lines) == (3 if terminal else 1) and max(map(len, lines)) <= (80 if terminal else len(sentence))
    assert [word for line in lines for word in line.split()] == sentence.split()
    assert "\x1b" not in screen.getvalue()


@pytest.mark.parametrize("door", ["train", "sweep", "evaluate", "predict", "export", "register", "diff", "compare"])
def test_the_help_of_every_door_fits(tmp_path, door):
    code, lines = on_terminal(tmp_path, command(f"{door}.py", "--help"))
    assert code == 0 and len(lines) > 10 and too_long(lines) == []


def test_the_report_is_a_table_that_fits_and_its_commands_are_whole(trained):
    report = [sys.executable, "-m", "cnnlab.report", "--output", "a.md", "--csv", "a.csv"]
    code, lines = on_terminal(trained.folder, report, PYTHONPATH=str(ROOT / "src"))
    assert code == 0, "\n".join(lines)
    assert too_long(lines) == []
    (row,) = [line.split() for line in lines if line.startswith("1   ")]
    assert row[:2] == ["1", "simple_cnn"] and f"{trained.run.data.metrics['test/acc']:.4f}" in row
    assert "1. python train.py model=simple_cnn 'model.filters=[4,8]' trainer.max_epochs=3 seed=0" in lines
    assert (trained.folder / "a.md").read_text().startswith("# Results")
