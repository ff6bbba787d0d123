"""A command of cnnlab's whose optimizer steps are watched: python -m benchmarks.watched FILE train override...

Writes into FILE when the first and the last optimizer step ended, in seconds since the epoch, and the most resident
memory, in MiB. Nothing of what the command imports is imported before it.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import sys
import threading
import time
from pathlib import Path

steps: list[float] = []


def note(*step: object) -> None:
    """Remember when a step ended: the first, and the newest."""
    steps[1:] = [time.time()]


def watch() -> None:
    """Wait until torch's optimizers are there, and let each tell its steps."""
    while not hasattr(sys.modules.get("torch.optim.optimizer"), "register_optimizer_step_post_hook"):
        time.sleep(0.005)
    sys.modules["torch.optim.optimizer"].register_optimizer_step_post_hook(note)


def main() -> None:
    file, door, *overrides = sys.argv[1:]
    main_process = os.getpid()

    def tell() -> None:
        if os.getpid() == main_process and steps:
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            seen = {"first": steps[0], "last": steps[-1], "memory": memory}
            Path(file).write_text(json.dumps(seen), encoding="utf-8")

    atexit.register(tell)
    threading.Thread(target=watch, daemon=True).start()
    sys.argv = [f"{door}.py", *overrides]
    from cnnlab.door import open_door

    open_door(door)


if __name__ == "__main__":
    main()
