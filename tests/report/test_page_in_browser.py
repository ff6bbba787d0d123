"""The page of the leaderboard in a real browser: it opens from a file, a click sorts, a choice filters."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import pytest

from cnnlab.report.__main__ import main
from page_store import fill

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
# Does what a reader does, and leaves what there is to see as JSON in the title.
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
  document.title = JSON.stringify(seen);
}, 300));
</script>"""


@pytest.mark.parametrize("width", [500, 1440])
def test_a_click_sorts_and_a_choice_filters(tmp_path, width, stored):
    page = tmp_path / "report.html"
    page.write_text(stored.replace("</head>", f"{READER}</head>"), encoding="utf-8")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/browser"]
    options += [f"--window-size={width},900", "--virtual-time-budget=5000", "--dump-dom", page.as_uri()]
    done = subprocess.run([CHROMIUM, *options], capture_output=True, text=True, timeout=120)
    seen = json.loads(html.unescape(re.search(r"<title>(\{.*?\})</title>", done.stdout, re.DOTALL)[1]))
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
