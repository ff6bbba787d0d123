"""The page of the leaderboard in a real browser: it opens from a file, a click sorts, a choice filters."""

from __future__ import annotations

import html
import json
import re

import pytest

from browser import Browser, framed, needs_browser
from cnnlab.report.__main__ import main
from page_store import fill

pytestmark = needs_browser
# Does what a reader does, and tells what there is to see as JSON.
READER = """<script>
const seen = {}, errors = [];
addEventListener("error", (event) => errors.push(event.message));
addEventListener("load", () => setTimeout(() => {
  const order = () => [...document.querySelectorAll(".leaderboard tbody tr")].filter((row) => !row.hidden)
    .map((row) => row.dataset.row);
  const headings = [...document.querySelectorAll(".leaderboard thead th")];
  const heading = headings.find((each) => each.textContent.includes("test acc"));
  seen.first = order();
  seen.charts = [...document.querySelectorAll("figure svg")].map((svg) => svg.querySelector("title").textContent);
  seen.lines = document.querySelectorAll("#curves path.curve").length;
  heading.querySelector("button").click();
  seen.down = [heading.getAttribute("aria-sort"), order()];
  heading.querySelector("button").click();
  seen.up = [heading.getAttribute("aria-sort"), order()];
  const select = document.querySelector("select[data-facet='optimizer.lr']");
  select.value = "0.1";
  select.dispatchEvent(new Event("change", { bubbles: true }));
  seen.filtered = order();
  seen.said = document.getElementById("status").textContent;
  seen.filteredLines = document.querySelectorAll("#curves path.curve").length;
  seen.folded = [...document.querySelectorAll("details[data-row]")].filter((row) => !row.hidden).map((row) => row.id);
  seen.wider = document.documentElement.scrollWidth - innerWidth;
  seen.errors = errors;
  parent.postMessage(JSON.stringify(seen), "*");
}, 300));
</script>"""


@pytest.mark.parametrize("width", [390, 1440])
def test_a_click_sorts_and_a_choice_filters(tmp_path, width, stored):
    page = tmp_path / "report.html"
    page.write_text(stored.replace("</head>", f"{READER}</head>"), encoding="utf-8")
    document = Browser(tmp_path / "browser").open(framed(page, width).as_uri())
    seen = json.loads(html.unescape(re.search(r"<title>(\{.*?\})</title>", document, re.DOTALL)[1]))
    assert seen["errors"] == [] and seen["wider"] <= 0, "nothing is wider than the window"
    assert seen["first"] == ["1", "2", "3"]
    assert seen["down"] == ["descending", ["1", "2", "3"]] and seen["up"] == ["ascending", ["3", "2", "1"]]
    assert len(seen["charts"]) == 8 and seen["charts"][0].startswith("digits: accuracy by epoch: 6 lines")
    assert seen["lines"] == 18, "nine runs, accuracy and loss"
    assert (seen["filtered"], seen["folded"], seen["filteredLines"]) == (["2"], ["row-2"], 6)
    assert seen["said"] == "1 of 3 rows shown"


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("page")
    files = {name: str(folder / f"a.{name}") for name in ("html", "csv", "output")}
    given = [part for name, file in files.items() for part in (f"--{name}", file)]
    assert main(["--uri", fill(folder), *given]) == 0
    return (folder / "a.html").read_text(encoding="utf-8")
