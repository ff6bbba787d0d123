"""Whether memory and time grow over many trainings in one process and one store.

    python benchmarks/soak.py [--runs 300] [--csv soak.csv] [SETTING=VALUE ...]

Each is a whole training of `dnn` on the digits for one epoch, with everything a training keeps by default. Printed:
medians of the first and the last fifty, and the resident memory on the way; the table has a row a run.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import tempfile
import time
from contextlib import chdir, redirect_stdout
from pathlib import Path

import psutil

from cnnlab import train

GIVEN = ("model=dnn", "trainer.max_epochs=1")
COLUMNS = ("run", "seconds", "cpu_seconds", "resident_mib")
ENDS = 50  # runs at either end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--csv", type=Path, default=Path("soak.csv"))
    parser.add_argument("settings", nargs="*")
    options = parser.parse_args()
    rows: list[tuple[int, float, float, float]] = []
    place = options.csv.absolute()
    with (
        tempfile.TemporaryDirectory() as folder,
        chdir(folder),
        Path(os.devnull).open("w") as nowhere,
        place.open("w", newline="") as file,
    ):
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for number in range(1, options.runs + 1):
            wall, cpu = time.perf_counter(), time.process_time()
            with redirect_stdout(nowhere):
                train(*GIVEN, *options.settings)
            taken = time.perf_counter() - wall, time.process_time() - cpu
            rows.append((number, *taken, psutil.Process().memory_info().rss / 2**20))
            table.writerow([number, *(f"{value:.3f}" for value in rows[-1][1:])])
            file.flush()
    for name, some in (("first", rows[:ENDS]), ("last", rows[-ENDS:])):
        _, seconds, cpu_seconds, memory = (statistics.median(column) for column in zip(*some, strict=True))
        print(f"{name} {len(some)} runs, medians: {seconds:.2f} s, {cpu_seconds:.2f} s of CPU, {memory:.0f} MiB")
    print("resident:", ", ".join(f"{row[3]:.0f} MiB after {row[0]}" for row in rows if row[0] in (20, 100, 200, 300)))


if __name__ == "__main__":
    main()
