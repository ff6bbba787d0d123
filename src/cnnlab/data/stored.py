"""Images beyond `dataset.memory_limit`: decoded once, by processes, into a file that every training maps into memory.

The file is named by what decides its pixels: the images' content, their order, and how they are read. So photos that
change make another one, and whoever needs the same pixels, a later epoch, another run or process, finds them there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL
import torch
from filelock import FileLock
from PIL import features
from torch import Tensor

from cnnlab.data.files import Failures, Files, with_unnamed
from cnnlab.decoder import MODULE, Answer, Order
from cnnlab.decoding import Form
from cnnlab.durable import sync
from cnnlab.errors import FULL, Incomplete, UsageError
from cnnlab.process import available_cores
from cnnlab.settings.dataset import ImageFolder
from cnnlab.start import importing

FOLDER = "image_cache"  # in dataset.root
VERSION = 1  # changes with what is in the file
MEBIBYTE = 2**20
FEWEST = 200  # images for which a process is started: that takes about as long as to decode them

log = logging.getLogger(__name__)


def map_files(files: Files, form: Form, dataset: ImageFolder) -> tuple[Tensor, Failures]:
    """Return the images, uint8 [N, C, H, W], on a file in `dataset.root` that is made first where it is missing.

    Also returns the files that cannot be read with their reasons, and no images then. One process makes the file, under
    a lock, and it has its name only when it is complete. Raises UsageError for a folder that cannot be written and a
    disk without room.
    """
    folder = folder_of(dataset)
    file = folder / f"{name_of(files, form)}.npy"
    shape = (len(files.paths), *form.size, form.channels)
    if (images := open_map(file, shape)) is not None:
        return images, []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock")):  # whoever waited finds the file there
            if open_map(file, shape) is None and (failures := _make(file, shape, files, form)):
                return torch.empty(0, form.channels, *form.size, dtype=torch.uint8), failures
    except OSError as error:
        size = f"dataset.path={dataset.path}: its images take {mebibytes(math.prod(shape)):,} MiB decoded"
        if error.errno in FULL:
            free = mebibytes(shutil.disk_usage(folder).free)
            why = f"and {folder} has {free:,} MiB free; set dataset.root to a folder on a larger disk"
        else:
            why = f"and {error.filename or folder}: {error.strerror}; set dataset.root to a folder that can be written"
        raise UsageError(
            f"{size}, beyond dataset.memory_limit={dataset.memory_limit}, {why}, or raise dataset.memory_limit"
        ) from error
    images = open_map(file, shape)
    assert images is not None
    return images, []


def folder_of(dataset: ImageFolder) -> Path:
    """Return where the files of decoded images lie."""
    return Path(dataset.root).expanduser() / FOLDER


def name_of(files: Files, form: Form) -> str:
    """Return 32 hexadecimal digits of all that decides the pixels: the content and order of the files, the form, and
    the decoders."""
    decoders = PIL.__version__, features.version("libjpeg_turbo")
    content = hashlib.blake2b(repr((VERSION, decoders, form)).encode(), digest_size=16)
    content.update("".join(files.keys).encode())
    return content.hexdigest()


def open_map(file: Path, shape: tuple[int, ...]) -> Tensor | None:
    """Return the images [N, H, W, C] of a file as [N, C, H, W], mapped into memory; None where there is none of them.

    In the memory format that `Batches` gathers from, which is also that of images in memory.
    """
    try:
        rows = np.load(file, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError):
        return None
    if rows.shape != shape or rows.dtype != np.uint8:
        return None
    images = torch.from_numpy(rows)
    return images.movedim(3, 1) if shape[3] > 1 else images.view(shape[0], 1, *shape[1:3])


def describe_map(size: int, dataset: ImageFolder) -> str:
    """Return in words that `size` bytes of images are not held in memory."""
    return (
        f"memory: the images take {mebibytes(size):,} MiB, beyond dataset.memory_limit={dataset.memory_limit}; "
        f"they are read from files in {folder_of(dataset)}"
    )


def mebibytes(size: int) -> int:
    """Return a number of bytes in MiB, rounded up."""
    return -(-size // MEBIBYTE)


def _make(file: Path, shape: tuple[int, ...], files: Files, form: Form) -> Failures:
    """Decode the files into a file; return those that cannot be read, and make none then.

    Raises OSError, before anything is decoded, where there is no room for it.
    """
    size = math.prod(shape)
    if shutil.disk_usage(file.parent).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    log.info("decoding %s images, once: %s MiB in %s", f"{shape[0]:,}", f"{mebibytes(size):,}", file)
    part = file.with_suffix(".part")
    try:
        with part.open("wb") as out:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(out, header)
            start = out.tell()
            if hasattr(os, "posix_fallocate"):  # nothing that is written later can find the disk full
                out.flush()
                os.posix_fallocate(out.fileno(), start, size)
        if failures := with_unnamed(files, _decode(part, start, files, form)):
            return failures
        sync(part)
        part.replace(file)
        sync(file.parent)
        return []
    finally:
        part.unlink(missing_ok=True)


def _decode(part: Path, start: int, files: Files, form: Form) -> dict[int, str]:
    """Share the files out to processes, and return why which of them cannot be read, by their place."""
    count = min(available_cores(), -(-len(files.paths) // FEWEST))
    images = [(place, os.fspath(path)) for place, path in enumerate(files.paths)]
    processes: list[subprocess.Popen[bytes]] = []
    failures: dict[int, str] = {}
    try:
        for _ in range(count):
            # In a session of its own: Ctrl-C reaches this process alone, which ends them.
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", MODULE],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env=os.environ | importing(),
                    start_new_session=True,
                )
            )
        for number, process in enumerate(processes):
            order = Order(os.fspath(part), start, images[number::count], form)
            assert process.stdin is not None
            try:
                process.stdin.write(order.written())
                process.stdin.flush()
            except BrokenPipeError:  # its end is told below
                pass
        for process in processes:
            failures |= dict(_answer_of(process).failures)
    finally:
        for process in processes:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()
    return failures


def _answer_of(process: subprocess.Popen[bytes]) -> Answer:
    """Wait for a process' answer; raises its OSError in writing, and Incomplete where it was lost."""
    assert process.stdout is not None
    said = process.stdout.read()
    if not said:
        code = process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        raise Incomplete(f"a process that decodes images (pid {process.pid}) {how}")
    answer = Answer(**json.loads(said))
    if answer.error is not None:
        raise OSError(*answer.error)
    return answer
