"""Compiles the C++ kernels for this processor, once, into the user's cache."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch
from filelock import FileLock

from cnnlab.errors import one_line

SOURCE = Path(__file__).with_name("pooled.cpp")
# -march=native: what is built runs on the processor that builds it; its name is part of the file's. No -ffast-math: NaN
# has to stay one.
OPTIONS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-std=c++17")
SECONDS = 120  # a compiler that takes longer is given up


class NotBuilt(Exception):
    """There is no library, for the reason it says."""


def cache_home() -> Path:
    """Return the user's folder for what can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cnnlab"


def compiler() -> str | None:
    """Return the C++ compiler, that of CXX where it is set; None where there is none."""
    return next((path for name in (os.environ.get("CXX"), "g++", "c++") if name and (path := shutil.which(name))), None)


@cache
def library() -> ctypes.CDLL:
    """Return the compiled kernels, which are built where the cache has none for this source, compiler and processor.

    Raises NotBuilt with the reason: no compiler, one that refuses, a cache that cannot be written.
    """
    if platform.system() != "Linux":  # threads are torch's own there: both are linked with GNU OpenMP
        raise NotBuilt(f"they are built on Linux alone, this is {platform.system()}")
    program = compiler()
    if program is None:
        raise NotBuilt("no C++ compiler was found (g++, c++ or CXX)")
    try:
        folder = private(cache_home() / "kernels")
        file = folder / f"pooled-{key(program)}.so"
        if not file.exists():
            with FileLock(folder / "lock"):
                if not file.exists():
                    build(program, file)
        return ctypes.CDLL(str(file))
    except subprocess.TimeoutExpired as error:
        raise NotBuilt(f"{program} did not end within {SECONDS} seconds") from error
    except OSError as error:
        raise NotBuilt(one_line(error)) from error


def private(folder: Path) -> Path:
    """Return the folder, made where it is missing; nobody else may put there what this process loads."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise NotBuilt(f"{folder} can be written by others")
    return folder


def key(program: str) -> str:
    """Return 16 hexadecimal digits of what the library depends on: source, options, compiler, processor, torch."""
    version = subprocess.run([program, "--version"], capture_output=True, timeout=SECONDS, check=False).stdout
    parts = (SOURCE.read_bytes(), " ".join(OPTIONS).encode(), version, instructions(), torch.__version__.encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def instructions() -> bytes:
    """Return what the processor can do, as the kernel lists it."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    except OSError:
        lines = []
    return next((line for line in lines if line.startswith((b"flags", b"Features"))), b"")


def build(program: str, file: Path) -> None:
    """Compile the source into `file`, beside it first."""
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        made = Path(folder) / file.name
        command = [program, *OPTIONS, "-o", str(made), str(SOURCE)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        if done.returncode or not made.exists():
            said = next((line for line in done.stderr.splitlines() if "error" in line), f"exit code {done.returncode}")
            raise NotBuilt(f"{program}: {said.strip()}")
        ctypes.CDLL(str(made))  # one that cannot be loaded is not kept
        made.replace(file)
