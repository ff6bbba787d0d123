"""One of the further processes of a training, which the first one starts for each device of its machine."""

from __future__ import annotations

import os
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from cnnlab import process

if TYPE_CHECKING:
    from cnnlab.settings.ranks import RankOrder

PATIENCE = 5.0  # seconds in which the first process tells of an error that it has, too, and ends this one


def main() -> None:
    """Read the order from stdin (it may hold a password, so it is no argument) and train along."""
    from cnnlab.settings.ranks import RankOrder

    order = RankOrder.model_validate_json(sys.stdin.read())
    process.set_environment()
    from cnnlab.errors import Told, hidden

    try:
        follow(order)
    except Told as error:
        if os.getppid() != order.parent:  # else that one tells
            print(*(f"error: {line}" for line in error.problems), sep="\n", file=sys.stderr)
        sys.exit(1)
    except Exception:
        time.sleep(PATIENCE)
        print(hidden(traceback.format_exc()), end="", file=sys.stderr)
        sys.exit(1)


def follow(order: RankOrder) -> None:
    """Take this process' part in the training, and in what is measured afterwards."""
    from cnnlab.last_checkpoint import read_state
    from cnnlab.own_path import add_to_path

    add_to_path(Path(order.own_folder) if order.own_folder else None)
    process.begin()
    from cnnlab.plan import make_plan, read_training
    from cnnlab.ranks import several
    from cnnlab.training import fit, test_best

    settings = read_training(order.settings)
    process.seed(settings.seed)
    plan = make_plan(settings, Path(order.folder))
    process.use_threads(settings.threads, plan.trainer.num_devices)
    with several(plan, None, Path(order.folder), parent=order.parent):
        if not order.test:
            for callback in (plan.checkpoint, plan.last):
                plan.trainer.callbacks.remove(callback)  # type: ignore[attr-defined]
        fit(plan, [], read_state(Path(order.state)) if order.state else None)
        if order.test:
            test_best(plan)


if __name__ == "__main__":
    main()
