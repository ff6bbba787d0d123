"""Everything that holds for a whole process, in one place: every door and worker calls these before anything else."""

from __future__ import annotations

import atexit
import gc
import io
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from functools import cache
from itertools import count
from typing import NoReturn

# Read when the libraries are first loaded; what the user has set wins.
ENVIRONMENT = {
    # GNU OpenMP: how long a waiting thread spins before it sleeps. With the default of 300,000 turns, threads on a busy
    # machine burn the time that the one they wait for needs (docs/speed.md).
    "GOMP_SPINCOUNT": "30000",
    # Nobody asked to be counted.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # a run says itself how to open it
    # A tracking server that is away is told in seconds; MLflow's own patience is two minutes a try, and seven tries.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
}
LIMIT = "OMP_NUM_THREADS"
_trainings = count()  # of this process
# MLflow's default of a job runner and four workers makes fourteen processes of a viewer.
SERVER_ENVIRONMENT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
# The libraries' chatter would bury what the run itself says.
CHATTY = ("pytorch_lightning", "lightning.pytorch", "lightning_fabric", "mlflow", "alembic")
# Their warnings tell of their own steps while a network is exported.
TALKATIVE = ("torch.fx.experimental.symbolic_shapes", "torch.onnx", "torch.export", "onnxscript", "onnx_ir")
IGNORED_WARNINGS = (
    ".*isinstance.treespec, LeafSpec.*",
    ".*No complete tensor found.*",
    # Lightning asks whether an empty list of validation batches was the intention. It was.
    "Total length of `list` across ranks is zero",
    # Of what the first process logs alone, and of sums that are added over all processes already.
    r"It is recommended to use `self.log\(.*sync_dist=True",
    # Of weights with one input channel, whose two memory formats are the same numbers in the same places.
    "Grad strides do not match bucket view strides",
    # An image has as many pixels as max_pixels allows.
    "Image size .* exceeds limit",
    # A training that goes on finds the checkpoints it wrote.
    "Checkpoint directory .* exists and is not empty",
    # Of files that are somebody else's; cnnlab says in a line what it makes of them.
    "Detected pickle protocol",
    "Validating sparse tensor invariants",
    # A recorded CUDA graph keeps the nodes it was recorded with.
    "The AccumulateGrad node's stream does not match",
    # Frozen layers are in evaluation mode, so that their statistics stay as they are.
    r"Found \d+ module\(s\) in eval mode at the start of training",
)


def set_environment(*, server: bool = False) -> None:
    """Set what the libraries read when they are loaded; imports none of them."""
    for name, value in (ENVIRONMENT | (SERVER_ENVIRONMENT if server else {})).items():
        os.environ.setdefault(name, value)
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # in a new home it tells of its fonts when it is loaded


def begin(threads: int | None = None) -> None:
    """Prepare a process that computes: `threads` CPU threads (torch's own choice without), quiet libraries.

    Has to come before the first tensor, because threads that torch has started keep their mode.
    """
    set_environment()
    import pytorch_lightning  # noqa: F401 - sets the level of its own messages when it is loaded
    import torch

    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message)
    if threads is not None:
        torch.set_num_threads(threads)
    # A penalty drives unused kernels to numbers below 1e-38, which a CPU multiplies in microcode.
    torch.set_flush_denormal(True)
    # torch's CUDA build asks for a device at every optimizer step (`_accelerator_graph_capture_health_check`); without
    # a driver each question is a failed attempt to load it.
    if not torch.cuda.is_available():
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


@cache
def own_threads() -> int:
    """Return torch's CPU threads as this process found them, before a training asked for another number."""
    import torch

    return torch.get_num_threads()


def use_threads(number: int | None, processes: int = 1) -> int:
    """Let torch compute with `number` CPU threads, in each of some processes on this machine; return how many.

    Without a number as many as the process found, or as Lightning gives each of several: its share of the cores.
    """
    import torch

    usual = own_threads()
    if number is None:
        number = usual if processes == 1 or LIMIT in os.environ else share_of_cores(processes)
    if processes > 1:
        os.environ[LIMIT] = str(number)  # where it is set, Lightning's launchers leave the number alone
    if number != torch.get_num_threads():
        torch.set_num_threads(number)
    return number


@contextmanager
def uncollected() -> Iterator[None]:
    """Let Python look for no garbage inside the block: importing makes a million objects, and hardly any garbage."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def free_earlier() -> None:
    """Free what an earlier training of this process has left: networks and trainers refer to each other.

    Python would look for it some hundred megabytes later.
    """
    if next(_trainings):
        free_memory()


def free_memory() -> None:
    """Give back what networks and trainers held, which refer to each other; a GPU needs it now."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def leave(code: int) -> NoReturn:
    """End the process with an exit code: threads are waited for, and what asked to be run is run, and nothing more.

    Python and torch would take apart all they have loaded: seconds of looking for garbage, and a tenth of a gigabyte of
    libraries read for the first time.
    """
    threading._shutdown()  # type: ignore[attr-defined] # as Python begins its end
    atexit._run_exitfuncs()
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None where they were closed
        stream.flush()
    os._exit(code)


def begin_search() -> None:
    """Silence what Optuna says of each trial, and that its heartbeat and some samplers are experimental."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("optuna.visualization").setLevel(logging.ERROR)  # tells of each parameter with one value
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    # Trials that train together have a heartbeat of cnnlab's own.
    warnings.filterwarnings("ignore", "Heartbeat of storage is supposed to be used with Study.optimize")


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Drop what is printed on stderr: torch's exporter prints the whole graph of a network that it refuses."""
    with redirect_stderr(io.StringIO()):
        yield


def seed(number: int) -> None:
    """Seed every generator of this process: Python's, numpy's and torch's."""
    import pytorch_lightning as pl

    pl.seed_everything(number, workers=True, verbose=False)


@contextmanager
def float32_by_default() -> Iterator[None]:
    """Let new tensors be float32: within a step of a network in bfloat16, Lightning makes that the default type."""
    import torch

    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(default)


def rank() -> int:
    """Return which of the processes of a training this one is, as far as its environment tells."""
    from lightning_fabric.utilities.rank_zero import _get_rank

    return _get_rank() or 0


def seed_rank(number: int, rank: int) -> None:
    """Seed every generator of one of several processes of a training; each rank has its own numbers, always the same.

    Both numbers are hashed, so that rank 1 of seed 0 has not those of seed 1.
    """
    import random

    import numpy as np
    import torch

    own = int(np.random.SeedSequence([number, rank]).generate_state(1)[0])
    random.seed(own)
    np.random.seed(own)
    torch.manual_seed(own)


def follows_a_first() -> bool:
    """Return whether torchrun, srun or mpirun has started this process beside the first one of a training."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return os.environ.get("RANK", "0") != "0"
    if "SLURM_STEP_ID" in os.environ and int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        return os.environ.get("SLURM_PROCID", "0") != "0"
    return "LOCAL_RANK" in os.environ and (os.environ["LOCAL_RANK"], os.environ.get("NODE_RANK", "0")) != ("0", "0")


def available_cores() -> int:
    """Return how many CPU cores this process may use: fewer than the machine has under SLURM or taskset."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_of_cores(processes: int) -> int:
    """Return how many cores each of some processes may use, at least one."""
    return max(1, available_cores() // processes)


def visible_devices(accelerator: str) -> list[str]:
    """Return the names of the GPUs to hand out, as CUDA_VISIBLE_DEVICES takes them; none when training on the CPU."""
    import torch

    if accelerator not in ("auto", "gpu", "cuda") or not torch.cuda.is_available():
        return []
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",") if given else [str(index) for index in range(torch.cuda.device_count())]


def share(index: int, threads: int, devices: list[str], group: int = 1) -> dict[str, str]:
    """Return the environment that gives worker `index` its CPU threads and, in turn, a group of the GPUs."""
    limits = {LIMIT: str(threads), "MKL_NUM_THREADS": str(threads)}
    places = range(index * group, (index + 1) * group)
    own = list(dict.fromkeys(devices[place % len(devices)] for place in places)) if devices else []
    return limits | ({"CUDA_VISIBLE_DEVICES": ",".join(own)} if own else {})
