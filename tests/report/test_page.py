"""The page of the leaderboard: one file that needs nothing else, and holds all that was measured."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from cnnlab.report.__main__ import main
from page_store import WIDE, fill

VOID = {"meta", "img", "br", "circle", "path"}


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("page")
    uri = fill(folder)
    options = ["--uri", uri, "--output", f"{folder}/a.md", "--csv", f"{folder}/a.csv", "--html", f"{folder}/a.html"]
    assert main(options) == 0
    return (folder / "a.html").read_text(encoding="utf-8")


class Outline(HTMLParser):
    """Counts tags, and checks that each is closed where it has to be."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def outline(page) -> Outline:
    found = Outline()
    found.feed(page)
    assert found.open == []
    return found


def test_it_asks_no_network(page, outline):
    for tag, given in outline.seen:
        assert tag not in ("link", "iframe") and not (tag == "script" and "src" in given)
        assert not given.get("src") or given["src"].startswith("data:")
        assert not given.get("href") or given["href"].startswith("#")
    assert "url(" not in page and "@import" not in page
    assert len(page) < 200_000


def test_tables_have_headings_and_drawings_have_titles(outline):
    headings = [given for tag, given in outline.seen if tag == "th"]
    assert headings and all(given.get("scope") in ("col", "row") for given in headings)
    drawings = [place for place, (tag, _) in enumerate(outline.seen) if tag == "svg"]
    assert drawings and all(outline.seen[place + 1][0] == "title" for place in drawings)
    assert all(given.get("alt") for tag, given in outline.seen if tag == "img")


def test_it_begins_with_the_best_of_each_dataset_and_its_command(page):
    best = page[page.index("The best of each dataset") : page.index("<form")]
    assert "0.9740 ± 0.0099" in best and "<pre>python train.py -m model=mlp dataset=digits optimizer.lr=0.01" in best
    assert "<h3>mnist: " in best


def test_each_row_has_its_curves_confusion_mistakes_and_where_it_comes_from(page):
    data = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])
    rows = {row["number"]: row for row in data["rows"]}
    assert [row["facets"] for row in rows.values()] == [
        {"dataset": "digits", WIDE: "5", "optimizer.lr": "0.01"},
        {"dataset": "digits", WIDE: "10", "optimizer.lr": "0.1"},
        {"dataset": "mnist", WIDE: "5", "optimizer.lr": "0.01"},
    ]
    assert [curve["name"] for curve in rows[1]["curves"]] == ["seed 0", "seed 1", "seed 2"]
    assert rows[1]["curves"][0]["train/loss"][:2] == [[1, 1.0], [2, 0.5]]
    detail = page[page.index('<details id="row-1"') : page.index('<details id="row-2"')]
    assert "&lt;two&gt;" in detail and "Confusion: true classes down" in detail and "data:image/png" in detail
    assert "abcdef" in detail and "(seed 2)" in detail and "all 9 settings" in detail


def test_a_sweep_tells_its_best_and_what_matters(page):
    sweep = page[page.index("<h2>Sweeps</h2>") :]
    assert "<h3>digits-mlp</h3>" in sweep and "trial 4" in sweep and "2 complete, 1 pruned" in sweep
    assert "told by 12 trials" in sweep and '<th scope="row">optimizer.lr</th><td class="number">0.84</td>' in sweep
