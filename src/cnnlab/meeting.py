"""The machines of one training, which wait for each other before anything is written."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from torch.distributed import TCPStore

from cnnlab.errors import UsageError
from cnnlab.plan import Plan
from cnnlab.trainer import OwnProcesses

SECONDS = 300.0  # in which all machines have to have come
POLL, PATIENCE = 0.2, 5.0  # seconds between two looks, and for a connection
_meetings = itertools.count()  # of this process: each job of a multirun has its own


@contextmanager
def met(plan: Plan) -> Iterator[None]:
    """Train in this block, once a process of each machine of the plan is there; with one there is nothing to wait for.

    Where torchrun or SLURM has started the processes they have waited already. Raises UsageError with the address and
    how many have come.
    """
    environment, machines = getattr(plan.trainer.strategy, "cluster_environment", None), plan.trainer.num_nodes
    if machines == 1 or not isinstance(environment, OwnProcesses):
        yield
        return
    address = environment.main_address, environment.main_port
    meeting = meet(*address, environment.node_rank(), machines, SECONDS, f"machines/{next(_meetings)}")
    yield
    del meeting  # the processes of the training use the same port, and the store behind it lives as long as one does


def meet(host: str, port: int, number: int, machines: int, seconds: float, name: str = "machines") -> TCPStore:
    """Wait until all machines have come to the first one, number 0, and return the store that they share.

    They are counted there under `name`.
    """
    deadline = time.monotonic() + seconds
    if number:
        while not answers(host, port):
            if time.monotonic() > deadline:
                raise too_late(host, port, f"the first of {machines} machines does not answer", seconds)
            time.sleep(POLL)
    store = TCPStore(
        host, port, is_master=not number, timeout=timedelta(seconds=30), wait_for_workers=False, multi_tenant=True
    )
    come = store.add(name, 1)
    while come < machines:
        if time.monotonic() > deadline:
            raise too_late(host, port, f"{come} of {machines} machines have come", seconds)
        time.sleep(POLL)
        come = store.add(name, 0)
    return store


def answers(host: str, port: int) -> bool:
    """Return whether somebody listens there."""
    try:
        with socket.create_connection((host, port), timeout=PATIENCE):
            return True
    except OSError:
        return False


def too_late(host: str, port: int, what: str, seconds: float) -> UsageError:
    """Return the error of a meeting that did not come about."""
    return UsageError(
        f"trainer.num_nodes: at {host}:{port} {what} within {seconds:g} seconds; start the same command on each "
        "machine with the same MASTER_ADDR and MASTER_PORT and with NODE_RANK=0, 1 and so on, or by torchrun"
    )
