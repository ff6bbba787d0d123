"""What users called their classes, files and layers is printed as it is, on a terminal and in a pipe."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from torch import nn

from cnnlab.console import console, show_closing
from cnnlab.difference import Comparison, Row, as_table
from cnnlab.evaluation import class_table
from cnnlab.metrics import Predictions
from cnnlab.models.summary import layer_table
from cnnlab.multirun import Ending, show_summary
from cnnlab.prediction import probability_table

CLASSES = ("[/b]", "[red]", ":cat:")
FILE = "it's [x].png"


@pytest.fixture(params=[False, True], ids=["pipe", "terminal"])
def screen(request, monkeypatch):
    """Let the console write to a file, which it takes for a terminal or not."""
    file = io.StringIO()
    monkeypatch.setattr(console, "_file", file)
    monkeypatch.setattr(console, "_force_terminal", request.param)
    monkeypatch.setattr(console, "_width", 100)
    monkeypatch.setattr(console, "no_color", True)
    return file


def test_tables_of_classes_and_files_have_their_names_as_they_are(screen):
    console.print(probability_table([Path(FILE)], torch.eye(3)[:1], CLASSES))
    console.print(f"picture: {FILE}")
    predictions = Predictions(torch.eye(3), torch.arange(3))
    console.print(class_table(predictions, CLASSES))
    shown = screen.getvalue()
    assert shown.count(FILE) == 2 and all(shown.count(name) == 2 for name in CLASSES)


def test_layers_and_differences_have_their_names_as_they_are(screen):
    console.print(layer_table(Odd(), (1, 8, 8)))
    console.print(as_table(Comparison(None, None, (Row("data", "[/b]", ":cat:", "[red]x"),), {})))
    shown = screen.getvalue()
    assert "[/b] (Flatten)" in shown and ":cat:" in shown and "[red]x" in shown and shown.count("[/b]") == 2


def test_the_closing_block_has_its_rows_as_they_are(screen):
    show_closing({"test/[/b]": "[red]1", "folder": "[/b]" * 30})
    shown = screen.getvalue()
    assert "test/[/b]" in shown and "[red]1" in shown and "[/b]" * 30 in shown


def test_overrides_of_several_jobs_are_as_they_were_typed(capsys):
    show_summary([Ending(("a=[/b]",)), Ending(("a=:cat:",))])
    shown = capsys.readouterr().out
    assert "a=[/b]" in shown and "a=:cat:" in shown


class Odd(nn.Module):
    """A network one layer of which has a name that reads like markup."""

    def __init__(self) -> None:
        super().__init__()
        self.add_module("[/b]", nn.Flatten())
        self.last = nn.Linear(64, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.last(self._modules["[/b]"](images))
