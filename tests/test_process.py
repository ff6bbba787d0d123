"""What holds for a whole process."""

from __future__ import annotations

import gc
import weakref

from cnnlab import process


class Trainer:
    """Refers to itself, as trainers and their modules do."""

    def __init__(self) -> None:
        self.module = self


def test_what_a_training_has_left_is_freed_when_the_next_one_begins():
    process.free_earlier()
    left = weakref.ref(Trainer())
    gc.disable()
    try:
        assert left() is not None
        process.free_earlier()
        assert left() is None
    finally:
        gc.enable()
