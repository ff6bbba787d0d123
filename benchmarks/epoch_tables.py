"""The tables of what `epochs` has measured, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.contestants.table import CONTESTANTS
from benchmarks.machine import about
from benchmarks.quartiles import quartiles, ratio

DEVICES = {"cpu": "CPU", "gpu": "GPU"}
OURS = {"cnnlab": "", "cnnlab_bf16": "bf16 "}
COMPARED = ("keras", "pytorch_tuned", "lightning")  # with whom docs/measured.md and README.md compare cnnlab


def joined(earlier: dict, found: dict) -> dict:
    """Return what was found with the recipes of an earlier time that were not measured again.

    Each recipe's contestants took turns with each other alone, so that recipes of two times stand beside each other;
    those that were measured at another time than the last whole benchmark say when and how.
    """
    if earlier["recipes"].keys() <= found["recipes"].keys():
        return found
    how = {key: found[key] for key in ("command", "machine", "threads")}
    return earlier | {"recipes": earlier["recipes"] | {name: {**it, **how} for name, it in found["recipes"].items()}}


def apart(found: dict) -> Iterator[str]:
    """Yield a line of each recipe that was measured at another time than the others."""
    for recipe, measured in found["recipes"].items():
        if "machine" in measured:
            yield f"`{recipe}` by itself, {measured['threads']} threads: {about({**found, **measured})}"
            yield ""


def told(found: dict) -> Iterator[str]:
    """Yield a table for each recipe."""
    yield f"Seconds of a training epoch on the {DEVICES[found['device']]}, {found['threads']} threads, by turns:"
    yield ""
    for recipe, measured in found["recipes"].items():
        yield from table(recipe, measured)
        yield ""
    yield from apart(found)
    yield "Last columns: how many times as long cnnlab takes. No epoch is validated."
    for name, reason in found["left_out"].items():
        yield f"{CONTESTANTS[name].title}: left out, {reason}."


def table(recipe: str, measured: dict) -> Iterator[str]:
    """Yield the table of one recipe: a line a contestant."""
    seconds = seconds_of(measured)
    ours = [name for name in OURS if name in seconds]
    images = measured["images"]
    yield (
        f"`{recipe}` on {measured['dataset']}: {images:,} images, batches of {measured['batch_size']}, "
        f"n = {measured['count']} epochs"
    )
    yield ""
    heads = ["", "median s", "quartiles", "images a second", "loss, accuracy"]
    yield from header([*heads, *(f"{CONTESTANTS[name].title} / it" for name in ours)])
    for name, values in seconds.items():
        low, middle, high = quartiles(values)
        last = measured["contestants"][name]["epochs"][-1]
        cells = [CONTESTANTS[name].title, f"{middle:.3g}", f"{low:.3g} to {high:.3g}", f"{images / middle:,.0f}"]
        cells.append(f"{last['objective']:.3f}, {last['accuracy']:.3f}")
        yield row([*cells, *("" if it == name else f"{ratio(seconds[it], values):.2f}" for it in ours)])
    if measured["left_out"]:
        yield ""
    for name, reason in measured["left_out"].items():
        yield f"{CONTESTANTS[name].title}: left out, {reason}"


def summary(found: dict) -> Iterator[str]:
    """Yield one table of all recipes: medians, and how many times as long cnnlab takes as others."""
    recipes = {name: seconds_of(measured) for name, measured in found["recipes"].items()}
    names = [name for name in CONTESTANTS if any(name in seconds for seconds in recipes.values())]
    against = [name for name in COMPARED if name in names]
    where = DEVICES[found["device"]]
    yield f"Seconds of a training epoch on the {where}, {found['threads']} threads, by turns, medians:"
    yield ""
    yield from header(
        ["", *(CONTESTANTS[it].title for it in names), *(f"cnnlab / {CONTESTANTS[it].title}" for it in against)]
    )
    for recipe, seconds in recipes.items():
        measured = found["recipes"][recipe]
        cells = [f"`{recipe}`, batches of {measured['batch_size']}, n = {measured['count']}"]
        cells += [f"{quartiles(seconds[name])[1]:.3g}" if name in seconds else "" for name in names]
        for other in against:
            both = [name for name in OURS if name in seconds and other in seconds]
            cells.append(", ".join(f"{OURS[name]}{ratio(seconds[name], seconds[other]):.2f}" for name in both))
        yield row(cells)
    yield ""
    for name in names:
        yield f"- {CONTESTANTS[name].title}: {CONTESTANTS[name].about}{versions(name, found)}"
    yield ""
    yield from apart(found)
    yield f"Quartiles: `benchmarks/results/{file_name(found)}.md`."


def headline(found: dict) -> Iterator[str]:
    """Yield an epoch's seconds over those of others, of the recipe that gains most and of the one that gains least."""
    recipes = [seconds_of(measured) for measured in found["recipes"].values()]
    against = []
    for other in COMPARED:
        both = [seconds for seconds in recipes if {"cnnlab", other} <= seconds.keys()]
        ratios = [ratio(seconds["cnnlab"], seconds[other]) for seconds in both]
        if ratios:
            against.append(f"{min(ratios):.2f} to {max(ratios):.2f} ({CONTESTANTS[other].title})")
    where = f"{DEVICES[found['device']]}, {found['threads']} threads"
    how = f"{where}, medians by turns, best and worst of {len(recipes)} recipes"
    yield f"Seconds of a training epoch, divided by those that others take ({how}):"
    yield f"{', '.join(against)}."


def versions(name: str, found: dict) -> str:
    """Return the versions that a contestant has told and that the machine's line does not."""
    known = {}
    for measured in found["recipes"].values():
        known |= measured["contestants"].get(name, {}).get("versions", {})
    own = [f"{package} {version}" for package, version in known.items() if package in ("keras", "tensorflow")]
    return f" ({', '.join(own)})" if own else ""


def file_name(found: dict) -> str:
    return "epochs" if found["device"] == "cpu" else f"epochs_{found['device']}"


def seconds_of(measured: dict) -> dict[str, list[float]]:
    """Return the seconds of each contestant's epochs."""
    return {name: [epoch["seconds"] for epoch in it["epochs"]] for name, it in measured["contestants"].items()}


def header(cells: list[str]) -> Iterator[str]:
    """Yield the first two lines of a table, whose numbers stand on the right."""
    yield row(cells)
    yield f"|---|{'---:|' * (len(cells) - 1)}"


def row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
