"""The leaderboard as one page that needs no network: to sort, to filter, to look into."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from cnnlab.report.details import Details, Searched, finite
from cnnlab.report.ledger import NOTE as CHANCE
from cnnlab.report.parts import bars, confusion_table, facts_table, whisker
from cnnlab.report.read import Facts
from cnnlab.report.rows import Row, Spread
from cnnlab.report.write import filled, mixed, note, place
from cnnlab.tracking.schema import CURVES, Tag

# Seen on white and on black; neighbours differ also for those who tell few colours apart.
PALETTE = ("#2f7ec1", "#d95f0e", "#1b9e77", "#c2589c", "#b8860b", "#7b6fd0", "#7f8c3a", "#a65a3a")
FACETS: dict[str, Callable[[Row], str]] = {
    "dataset": lambda row: row.dataset,
    "recipe": lambda row: row.recipe,
    "model": lambda row: row.model,
    "regularization": lambda row: row.regularization,
    "device": lambda row: row.device,
}
GROUPS = ("augmentation", "optimizer", "scheduler", "loss")  # sections whose names are worth a filter
escape = html.escape


@dataclass(frozen=True)
class Content:
    """All that stands on the page; `details` are those of the rows, in their order, `facts` of all runs by id."""

    rows: Sequence[Row]
    details: Sequence[Details]
    sweeps: Sequence[Searched]
    facts: Mapping[str, Facts]
    selection: str
    origin: str
    machines: Sequence[str]
    ledger: Sequence[str]


def as_page(content: Content) -> str:
    """Return the page as HTML: style, script and pictures are in it."""
    folder = files("cnnlab.report")
    style, script = ((folder / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    lines = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Results</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{style}</style></head><body>",
        '<a class="skip" href="#leaderboard">to the leaderboard</a>',
        f'<header><h1>Results</h1><p class="soft">{escape(content.selection)}; written by '
        f"<code>{escape(content.origin)}</code></p></header><main>",
    ]
    if not content.rows:
        return "\n".join([*lines, "<p>No runs.</p></main></body></html>"])
    lines += [*_best(content), *_filter(content), *_leaderboard(content)]
    lines += [
        '<h2>Learning curves</h2><label class="soft">lines <select id="lines"><option>validation</option>'
        "<option>training</option><option>both</option></select></label>",
        '<div id="curves" class="charts"></div><ul id="legend" class="legend"></ul>',
        "<h2>What accuracy costs</h2>",
        '<div id="against" class="charts"></div>',
        '<noscript><p class="soft">Charts, sorting and filters need JavaScript.</p></noscript>',
    ]
    lines += [*_each(content), *_sweeps(content), *_rest(content)]
    data = json.dumps(_data(content), ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    lines += [f'<script type="application/json" id="data">{data}</script>', f"<script>{script}</script></body></html>"]
    return "\n".join(lines)


def name_of(row: Row) -> str:
    """Return what a row is called."""
    return (f"{row.recipe}{', changed' if row.changed else ''}" if row.recipe else row.model) or "?"


def facets(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return by what the rows can be filtered, each with a value a row: what differs between any two of them."""
    named: dict[str, list[str]] = {title: [of(row) for row in rows] for title, of in FACETS.items()}
    for group in GROUPS:
        named[group] = [row.settings.get(f"{group}.name", "") for row in rows]
    keys = dict.fromkeys(item.partition("=")[0] for row in rows for item in row.differing)
    for key in keys:
        named.setdefault(key, [row.settings.get(key, "") for row in rows])
    return {title: values for title, values in named.items() if len(set(values)) > 1}


def _best(content: Content) -> Iterator[str]:
    """Yield the best row of each dataset with the command that repeats it."""
    yield '<h2>The best of each dataset</h2><div class="cards">'
    for dataset in dict.fromkeys(row.dataset for row in content.rows):
        number, row = next(item for item in enumerate(content.rows, start=1) if item[1].dataset == dataset)
        yield f'<section class="card"><h3>{escape(dataset)}: <a href="#row-{number}">{escape(name_of(row))}</a></h3>'
        for spread, split in ((row.validation_accuracy, "validation"), (row.test_accuracy, "test")):
            if spread is not None:
                kind = "big" if split == "validation" else "soft"
                yield f'<p class="{kind}">{_interval(spread)} <span class="soft">{split} accuracy</span></p>'
        said = f"{row.trainings} seed{'' if row.trainings == '1' else 's'}, chosen by validation"
        said += f", place {place(row)}" if row.places else ""
        yield f'<p class="soft">{escape(said)}</p>'
        yield f"{_command(row.command)}</section>"
    yield "</div>"


def _filter(content: Content) -> Iterator[str]:
    yield '<form id="filter" aria-label="filter the rows">'
    for title, values in facets(content.rows).items():
        known = sorted(set(values))
        options = "".join(f'<option value="{escape(value)}">{escape(value)}</option>' for value in known if value)
        yield f'<label>{escape(title)}<select data-facet="{escape(title)}"><option value="">all</option>{options}'
        yield "</select></label>"
    yield '<button type="reset">all rows</button><span id="status" class="soft" role="status">'
    yield f"{len(content.rows)} rows</span></form>"


def _leaderboard(content: Content) -> Iterator[str]:
    """Yield the table: as in Markdown, and intervals as whiskers on a scale that all rows of a dataset share."""
    headings, *lines = filled(content.rows)
    apart = {"", "recipe", "model", "differs in"}  # these are in the first column
    shown = [column for column, heading in enumerate(headings) if heading not in apart]
    shown.sort(key=lambda column: not headings[column].endswith("acc"))  # on a phone the first columns are seen
    yield '<h2 id="leaderboard">Leaderboard</h2>'
    yield '<div class="scroll" role="region" aria-labelledby="leaderboard" tabindex="0"><table class="leaderboard">'
    yield "<caption>Sorted by validation; a heading sorts.</caption><thead><tr>"
    yield '<th scope="col"><button type="button">what</button></th>'
    for column in shown:
        first = ' data-first="descending"' if headings[column].endswith("acc") else ""
        yield f'<th scope="col"{first}><button type="button">{escape(headings[column])}</button></th>'
    yield "</tr></thead><tbody>"
    for number, (row, line) in enumerate(zip(content.rows, lines, strict=True), start=1):
        differing = f'<br><code class="differing">{escape(" ".join(row.differing))}</code>' if row.differing else ""
        model = f'<br><span class="soft">{escape(row.model)}</span>' if row.recipe else ""
        yield (
            f'<tr data-row="{number}"><th scope="row"><span class="swatch" style="background:{_color(number)}"></span>'
            f'<a href="#row-{number}">{escape(name_of(row))}</a>{model}{differing}</th>'
        )
        for column in shown:
            yield _cell(content.rows, row, headings[column], line[column])
        yield "</tr>"
    yield f'</tbody></table></div><p class="soft">{escape(note(headings))}</p>'


def _cell(rows: Sequence[Row], row: Row, heading: str, text: str) -> str:
    """Return a cell of the leaderboard, with the number that it is sorted by."""
    spreads = {
        "test acc": row.test_accuracy, "val acc": row.validation_accuracy, "epochs": row.epochs, "seconds": row.seconds
    }  # fmt: skip
    if heading in spreads:
        spread = spreads[heading]
        if spread is None:
            return '<td class="number" data-value=""></td>'
        drawn = ""
        if heading.endswith("acc"):
            same = [other for other in rows if other.dataset == row.dataset]
            others = [other.test_accuracy if heading == "test acc" else other.validation_accuracy for other in same]
            drawn = whisker(spread, [other for other in others if other is not None])
        return f'<td class="number" data-value="{spread.mean:.6f}">{escape(text)}{drawn}</td>'
    plain = {"parameters": row.parameters, "seeds": len(row.seeds), "place": row.places[0] if row.places else None}
    if heading in plain:
        value = "" if plain[heading] is None else str(plain[heading])
        return f'<td class="number" data-value="{value}">{escape(text)}</td>'
    kind = f' class="{text}"' if heading == "reached" and text else ""
    return f"<td{kind}>{escape(text)}</td>"


def _each(content: Content) -> Iterator[str]:
    """Yield what is known of each row, folded."""
    yield "<h2>Each row</h2>"
    for number, (row, details) in enumerate(zip(content.rows, content.details, strict=True), start=1):
        said = f"{number}. {name_of(row)} on {row.dataset} {' '.join(row.differing)}"
        yield f'<details id="row-{number}" data-row="{number}"><summary>{escape(said)}</summary>{_command(row.command)}'
        yield '<div class="parts">'
        if details.confusion:
            yield confusion_table(details.confusion)
        if details.mistakes:
            picture = base64.b64encode(details.mistakes).decode()
            yield (
                "<figure><figcaption>The most confident mistakes</figcaption>"
                f'<img alt="images that were taken for another class, with truth, answer and probability" '
                f'loading="lazy" src="data:image/png;base64,{picture}"></figure>'
            )
        yield facts_table(row, [content.facts[run_id] for run_id in row.run_ids])
        yield "</div></details>"


def _sweeps(content: Content) -> Iterator[str]:
    """Yield what the sweeps found: the best trial, and which parameters matter."""
    if not content.sweeps:
        return
    yield "<h2>Sweeps</h2>"
    for sweep in content.sweeps:
        tags = sweep.facts.tags
        yield f"<h3>{escape(tags.get(Tag.STUDY, sweep.facts.run_id))}</h3>"
        states = [line[1] for line in sweep.trials[1:]]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        if Tag.BEST_PARAMETERS in tags:
            yield f"<p>Best: trial {escape(tags.get(Tag.BEST_TRIAL, '?'))}, "
            yield f"<code>{escape(tags[Tag.BEST_PARAMETERS])}</code></p>"
        yield f'<p class="soft">Trials: {escape(counts)}</p>' if counts else ""
        yield bars(sweep.importances)
        yield _command(tags.get(Tag.COMMAND, ""))


def _rest(content: Content) -> Iterator[str]:
    yield "</main><footer><h2>Where this comes from</h2>"
    for line in (*mixed(content.rows), *(f"Machine: {machine}." for machine in content.machines), *content.ledger):
        yield f"<p>{escape(line)}</p>"
    if content.ledger:
        yield f'<p class="soft">{escape(CHANCE)}</p>'
    yield "</footer>"


def _data(content: Content) -> dict[str, object]:
    """Return what the script draws."""
    values = facets(content.rows)
    rows = []
    for number, (row, details) in enumerate(zip(content.rows, content.details, strict=True), start=1):
        spread = row.validation_accuracy
        half = spread.half_width if spread and len(spread.values) > 1 else 0
        curves = [
            {"name": _training(content.facts[run_id]), **{name: finite(history, name) for name in CURVES}}
            for run_id, history in details.curves.items()
        ]
        rows.append(
            {
                "number": number,
                "name": " ".join([f"{number}. {name_of(row)}", *row.differing]),
                "color": _color(number),
                "facets": {title: each[number - 1] for title, each in values.items()} | {"dataset": row.dataset},
                "reached": None if spread is None else [round(spread.mean, 6), round(half, 6)],
                "parameters": row.parameters,
                "seconds": None if row.seconds is None else round(row.seconds.mean, 2),
                "curves": [curve for curve in curves if any(curve[name] for name in CURVES)],
            }
        )
    return {"rows": rows, "measured": "validation accuracy"}


def _training(facts: Facts) -> str:
    fold = f", fold {facts.tags[Tag.FOLD]}" if Tag.FOLD in facts.tags else ""
    return f"seed {facts.tags.get(Tag.SEED, '?')}{fold}"


def _color(number: int) -> str:
    return PALETTE[(number - 1) % len(PALETTE)]


def _interval(spread: Spread) -> str:
    return f"{spread.mean:.4f}" + (f" ± {spread.half_width:.4f}" if len(spread.values) > 1 else "")


def _command(command: str) -> str:
    if not command:
        return ""
    return (
        f'<div class="command"><pre>{escape(command)}</pre><button type="button" data-copy '
        f'aria-label="copy the command">copy</button></div>'
    )
