"""A process that decodes some of many image files into one file; `cnnlab.data.stored` starts one for each core."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Thread

from cnnlab.decoding import Form, read_pixels
from cnnlab.errors import one_line

MODULE = "cnnlab.decoder"


@dataclass(frozen=True)
class Order:
    """What one process decodes: (row, path) of each image, into which file, and the byte where its row 0 begins."""

    file: str
    start: int
    images: Sequence[tuple[int, str]]
    form: Form

    def written(self) -> bytes:
        """Return the order as one line."""
        return json.dumps(asdict(self)).encode() + b"\n"


@dataclass(frozen=True)
class Answer:
    """What became of an order: (row, reason) of each image that cannot be read, or the system's error in writing."""

    failures: Sequence[tuple[int, str]] = ()
    error: tuple[int, str] | None = None


def decode(order: Order) -> Answer:
    """Write the images as uint8 [height, width, channels], each into its row."""
    failures = []
    try:
        with Path(order.file).open("r+b") as file:
            for row, path in order.images:
                # A damaged file can raise almost anything in a decoder, and each is the file's fault.
                try:
                    pixels = read_pixels(path, order.form)
                except Exception as error:
                    failures.append((row, one_line(error)))
                    continue
                file.seek(order.start + row * pixels.nbytes)
                file.write(pixels.data)
    except OSError as error:
        return Answer(error=(error.errno or 0, error.strerror or str(error)))
    return Answer(failures)


def read_order(line: bytes) -> Order:
    """Return what `Order.written` wrote."""
    values = json.loads(line)
    form = values["form"]
    return Order(**values | {"form": Form(**form | {"size": tuple(form["size"])})})


def main() -> None:
    """Read an order from stdin, and end where stdin does: whoever waits for the answer is gone then."""
    order = read_order(sys.stdin.buffer.readline())
    Thread(target=_end_with_stdin, daemon=True).start()
    json.dump(asdict(decode(order)), sys.stdout)


def _end_with_stdin() -> None:
    os.read(sys.stdin.fileno(), 1)  # not through the buffer, whose lock would be held when the process ends
    os._exit(1)


if __name__ == "__main__":
    main()
