"""Pieces of the page: tables and small drawings, in HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence
from datetime import UTC, datetime

from cnnlab.report.details import Table
from cnnlab.report.read import Facts
from cnnlab.report.rows import Row, Spread
from cnnlab.tracking.schema import VERSION, Tag

MOST_CLASSES = 20  # whose counts can still be read in a table
NAMED = 20  # confusions named of more classes
FEWEST = 10  # trials below which an importance is chance
WIDTH, HEIGHT = 120, 12  # pixels of a whisker
escape = html.escape


def whisker(spread: Spread, others: Sequence[Spread]) -> str:
    """Return an interval as a drawing, on the scale that the others have, too; of one value a dot."""
    several = [other for other in others if len(other.values) > 1]
    ends = [other.mean for other in others]
    ends += [other.mean + sign * other.half_width for other in several for sign in (-1, 1)]
    low, high = max(0.0, min(ends)), min(1.0, max(ends))

    def at(value: float) -> float:
        share = (min(max(value, low), high) - low) / ((high - low) or 1)
        return round(4 + share * (WIDTH - 8), 1)

    said = f"{spread.mean:.4f} on a scale from {low:.4f} to {high:.4f}"
    line = ""
    if len(spread.values) > 1:
        said = f"95 % interval {spread.mean - spread.half_width:.4f} to {spread.mean + spread.half_width:.4f}; {said}"
        left, right = at(spread.mean - spread.half_width), at(spread.mean + spread.half_width)
        line = f'<path d="M{left} 6H{right}" stroke="currentColor" stroke-width="2"/>'
    return (
        f'<svg class="whisker" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        f'<title>{said}</title><path class="grid" d="M4 6H{WIDTH - 4}"/>{line}'
        f'<circle cx="{at(spread.mean)}" cy="6" r="3.5" fill="currentColor"/></svg>'
    )


def confusion_table(counts: Table) -> str:
    """Return a confusion matrix, headings included, as a table; of many classes the most frequent confusions."""
    names, rows = list(counts[0][1:]), [[int(count) for count in line[1:]] for line in counts[1:]]
    if len(names) > MOST_CLASSES:
        return _confusions(names, rows)
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    lines = [
        '<div class="scroll"><table class="confusion"><caption>Confusion: true classes down, predicted across</caption>'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>"
    ]
    for name, row in zip(names, rows, strict=True):
        # The square root lets one mistake in a hundred show beside ninety-nine hits.
        shades = [(count / max(1, sum(row))) ** 0.5 for count in row]
        cells = "".join(
            f'<td{" class=strong" if shade > 0.6 else ""} style="background:rgba(var(--blues),{shade:.2f})">'
            f"{count or ''}</td>"
            for count, shade in zip(row, shades, strict=True)
        )
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    return "".join([*lines, "</tbody></table></div>"])


def _confusions(names: Sequence[str], rows: Sequence[Sequence[int]]) -> str:
    pairs = [
        (count, names[true], names[told])
        for true, row in enumerate(rows)
        for told, count in enumerate(row)
        if count and true != told
    ]
    cells = "".join(
        f'<tr><td>{escape(true)}</td><td>{escape(told)}</td><td class="number">{count}</td></tr>'
        for count, true, told in sorted(pairs, key=lambda pair: -pair[0])[:NAMED]
    )
    return (
        f"<div><table><caption>The most frequent of the confusions of {len(names)} classes</caption>"
        '<thead><tr><th scope="col">true</th><th scope="col">predicted</th><th scope="col">images</th></tr></thead>'
        f"<tbody>{cells}</tbody></table></div>"
    )


def bars(importances: Table) -> str:
    """Return importances, headings included, as a table with a bar a parameter."""
    lines = importances[1:]
    if not lines:
        return f'<p class="soft">The importance of parameters takes {FEWEST} trials.</p>' if importances else ""
    cells = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="number">{float(share):.2f}</td>'
        f'<td><span class="bar" style="width:{100 * float(share):.0f}px"></span></td></tr>'
        for name, share, _ in lines
    )
    return (
        f'<table class="facts"><caption>Importance of the parameters, told by {escape(lines[0][2])} trials</caption>'
        f'<thead><tr><th scope="col">parameter</th><th scope="col">share</th><td></td></tr></thead>'
        f"<tbody>{cells}</tbody></table>"
    )


def facts_table(row: Row, runs: Sequence[Facts]) -> str:
    """Return where a row comes from: its runs, data, code, versions and machine, and all its settings."""
    latest = runs[-1]
    tags = latest.tags
    commit = tags.get(Tag.COMMIT, "")[:12] + (" with uncommitted changes" if tags.get(Tag.DIRTY) == "true" else "")
    versions = {key.removeprefix(VERSION): value for key, value in tags.items() if key.startswith(VERSION)}
    started = datetime.fromtimestamp(latest.started / 1000, UTC)
    known = {
        "runs": ", ".join(f"{run.run_id} (seed {run.tags.get(Tag.SEED, '?')})" for run in runs),
        "latest started": f"{started:%Y-%m-%d %H:%M} UTC",
        "data": f"{tags.get(Tag.DATASET, '')} {latest.data}".strip(),
        "images": tags.get(Tag.IMAGES, ""),
        "commit": commit,
        "versions": ", ".join(f"{name} {version}" for name, version in sorted(versions.items())),
        "device": " ".join(filter(None, (tags.get(Tag.DEVICE, ""), tags.get(Tag.DEVICE_NAME, "")))),
        "threads": tags.get(Tag.THREADS, ""),
    }
    return (
        f"<div>{_pairs('Where it comes from', {name: value for name, value in known.items() if value})}"
        f"<details><summary>all {len(row.settings)} settings</summary>{_pairs('Settings', dict(row.settings))}"
        "</details></div>"
    )


def _pairs(caption: str, pairs: dict[str, str]) -> str:
    lines = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in pairs.items()
    )
    return f'<table class="facts"><caption>{escape(caption)}</caption><tbody>{lines}</tbody></table>'
