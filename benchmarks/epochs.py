"""Seconds of a training epoch, of cnnlab and of other ways to train the same network, by turns.

    CNNLAB_DATA=... python -m benchmarks epochs [--recipes dnn,deep_cnn] [--contestants keras,cnnlab] [--epochs 5]

Every contestant is a process of its own that stays alive and trains one epoch when it is its turn, with as many threads
as the others; who is first changes from round to round. The first epoch of each is not counted. An epoch is all that
its author's training does of it but validation, which nobody has here: shuffling, batches, steps, loss and accuracy of
the training images, and with cnnlab and Lightning logging and checkpoints.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.contestants.keras_environment import CannotBeHad
from benchmarks.contestants.table import CNNLAB, CONTESTANTS, taking_part
from benchmarks.epoch_tables import DEVICES, headline, joined, summary, told
from benchmarks.recipes import RECIPES, train_command, write_task
from benchmarks.turns import Turn
from cnnlab.process import available_cores

__all__ = ["add_options", "headline", "joined", "measure", "summary", "told"]


def names_of(table: dict) -> object:
    """Return the type of an option that takes names of a table."""

    def names(text: str) -> list[str]:
        found = text.split(",")
        if unknown := [name for name in found if name not in table]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: allowed are {', '.join(table)}")
        return found

    return names


def count(text: str) -> int:
    """Return a number of at least 1; argparse says the rest."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}: at least 1")
    return number


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--recipes", type=names_of(RECIPES), default=list(RECIPES), help=", ".join(RECIPES))
    parser.add_argument("--contestants", type=names_of(CONTESTANTS), help=", ".join(CONTESTANTS))
    parser.add_argument("--epochs", type=count, help="of each contestant, beside its first one")
    parser.add_argument("--dataset", help="train on these images instead of the recipe's, such as digits")
    parser.add_argument("--threads", type=count, default=available_cores(), help="of each contestant")
    parser.add_argument("--device", choices=DEVICES, default="cpu")


def measure(options: argparse.Namespace) -> dict:
    """Train the recipes by turns; return the seconds of each epoch of each contestant."""
    names, left_out = taking_part(options.contestants, options.device)
    found: dict = {"device": options.device, "threads": options.threads, "left_out": left_out, "recipes": {}}
    for name, reason in left_out.items():
        print(f"{CONTESTANTS[name].title}: left out, {reason}", flush=True)
    for recipe in options.recipes:
        found["recipes"][recipe] = by_turns(recipe, names, options)
    return found


def by_turns(recipe: str, names: Sequence[str], options: argparse.Namespace) -> dict:
    """Train one recipe with all contestants; those who cannot take part are told and left out."""
    overrides = [*RECIPES[recipe].overrides, *([f"dataset={options.dataset}"] if options.dataset else [])]
    epochs = options.epochs or RECIPES[recipe].epochs
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        folder = Path(place)
        task, about = write_task(recipe, overrides, folder, options.threads, options.device)
        found: dict = {"overrides": overrides, **about, "count": epochs, "left_out": {}, "contestants": {}}
        turns: dict[str, Turn] = {}

        def leave_out(name: str, error: CannotBeHad) -> None:
            turns.pop(name, None)
            found["contestants"].pop(name, None)
            found["left_out"][name] = str(error)
            print(f"{CONTESTANTS[name].title}: left out, {error}", file=sys.stderr, flush=True)

        for name in names:
            try:
                turn = Turn(
                    command_of(name, overrides, options.device), task, options.threads, options.device, folder / name
                )
                stack.callback(turn.close)
                turn.epoch()
            except CannotBeHad as error:
                leave_out(name, error)
                continue
            turns[name] = turn
            found["contestants"][name] = {"versions": turn.versions, "epochs": []}
        for number in range(epochs):
            for name in list(turns) if number % 2 else reversed(list(turns)):
                try:
                    epoch = turns[name].epoch()
                except CannotBeHad as error:
                    leave_out(name, error)
                    continue
                found["contestants"][name]["epochs"].append(epoch)
                print(f"{recipe} {number + 1}/{epochs} {CONTESTANTS[name].title}: {epoch['seconds']:.3g} s", flush=True)
    return found


def command_of(name: str, overrides: Sequence[str], device: str) -> list[str]:
    """Return the command of a contestant's process."""
    contestant = CONTESTANTS[name]
    if contestant.module == CNNLAB:
        return [contestant.python(), *train_command([*overrides, *contestant.arguments], device)]
    return [contestant.python(), "-m", contestant.module, *contestant.arguments]
