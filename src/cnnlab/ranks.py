"""The processes of one training over several devices: started, watched, and ended together.

Those of this machine are started here, and told the checked settings: Lightning would repeat the command line, which
is that of all jobs in a multirun, and nobody's in a notebook or a sweep. Where torchrun or SLURM has started them, they
are only watched.
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch.distributed
from pytorch_lightning.trainer.states import TrainerStatus

from cnnlab.contact import GONE, Contact, First
from cnnlab.errors import Incomplete
from cnnlab.plan import Plan
from cnnlab.settings.commands import Tracking
from cnnlab.settings.ranks import RankOrder
from cnnlab.signals import Interruption, deferred
from cnnlab.start import importing
from cnnlab.tracking.run import TrackedRun, end_for_another, end_own
from cnnlab.trainer import OwnProcesses
from cnnlab.watchdog import watchdog

ADDRESS = ("MASTER_ADDR", "MASTER_PORT")  # where Lightning keeps the first process'
ENDING = 60.0  # seconds the others have to end after the first one
DYING = 3.0  # seconds between the last words of a process and its death
UNKNOWN = 20.0  # seconds a first process on another machine has to end its run
MODULE = "cnnlab.rank"


@dataclass
class Others:
    """The processes that this one has started, by their rank."""

    processes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def lost(self) -> str | None:
        """Return what became of one that failed; None where all are well, or have ended well."""
        for rank, process in self.processes.items():
            if code := process.poll():
                how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
                return f"process {rank} of this training (pid {process.pid}) {how}"
        return None

    def wait(self, seconds: float) -> None:
        """Wait until all have ended, at most some seconds."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and any(process.poll() is None for process in self.processes.values()):
            time.sleep(0.05)

    def end(self) -> None:
        """Kill those that are left: in the middle of a message to others they listen to nothing else."""
        for process in self.processes.values():
            process.kill()
            process.wait()


@contextmanager
def several(
    plan: Plan,
    run: TrackedRun | None,
    folder: Path,
    own_folder: Path | None = None,
    *,
    state: Path | None = None,
    test: bool = True,
    parent: int | None = None,
) -> Iterator[None]:
    """Train in this block with all devices of the plan; with one there is nothing to do.

    `run` is the first process', `parent` the process that has started this one, if one of ours has. Where another
    process is lost, this one does not wait for it: raises Incomplete, and the run ends FAILED, also when it was the
    first one's, which is gone.
    """
    trainer = plan.trainer
    if trainer.num_devices * trainer.num_nodes == 1:
        yield
        return
    contact = Contact(First(run.run_id) if run else None)
    trainer.callbacks.insert(0, contact)  # type: ignore[attr-defined]
    plan.logger.agree = lambda: setattr(trainer, "should_stop", trainer.strategy.broadcast(trainer.should_stop))
    address = {name: os.environ.get(name) for name in ADDRESS}
    others = Others()
    tracking = plan.settings.tracking

    def lost() -> str | None:
        if parent is not None and os.getppid() != parent:
            return GONE.format(parent, platform.node())
        return others.lost()

    def end(reason: str, number: int | None) -> None:
        others.end()
        if run is not None:
            print(f"error: {reason}; MLflow run {run.run_id} is ended", file=sys.stderr, flush=True)
            if waits := end_own(run, tracking, reason, interrupted=number is not None):
                print(waits, file=sys.stderr, flush=True)
        else:
            end_for_first(contact, tracking)

    try:
        with watchdog(lambda: trainer.state.status == TrainerStatus.RUNNING, lost, end):
            others.processes = start(plan, folder, own_folder, state, test)
            yield
            others.wait(ENDING)
    except BaseException as error:
        orphaned = run is None and end_for_first(contact, tracking)
        asked = isinstance(error, Interruption) and not error.__context__
        # torchrun asks the others to stop as soon as the first one is gone.
        if not orphaned and (asked or not contact.lost):
            raise
        others.wait(1.0)  # one that was lost may not be dead yet
        reason = lost() or "another process of this training is gone"
        if run is None and contact.first and contact.first.is_gone:
            reason = contact.first.obituary
        ended = f"; MLflow run {contact.first.run_id} is FAILED" if contact.first else ""
        raise Incomplete(f"{reason}{ended}") from error
    finally:
        others.end()
        if isinstance(
            getattr(trainer.strategy, "cluster_environment", None), OwnProcesses
        ):  # the next job has processes of its own
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
            for name, value in address.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def start(
    plan: Plan, folder: Path, own_folder: Path | None, state: Path | None, test: bool
) -> dict[int, subprocess.Popen[bytes]]:
    """Start the processes of this machine's other devices, unless somebody else does; return them by their rank.

    In sessions of their own: Ctrl-C reaches the first one alone, which ends them.
    """
    trainer, environment = plan.trainer, getattr(plan.trainer.strategy, "cluster_environment", None)
    if not isinstance(environment, OwnProcesses):
        return {}
    order = RankOrder(
        settings=plan.settings.plain(),
        folder=str(folder),
        own_folder=str(own_folder.resolve()) if own_folder else None,
        state=str(state) if state else None,
        test=test,
        parent=os.getpid(),
    )
    found = importing() | {
        "MASTER_ADDR": environment.main_address,
        "MASTER_PORT": str(environment.main_port),
        "NODE_RANK": str(environment.node_rank()),
    }
    started = {}
    for local_rank in range(1, trainer.num_devices):
        process = subprocess.Popen(
            [sys.executable, "-m", MODULE],
            stdin=subprocess.PIPE,
            env=os.environ | found | {"LOCAL_RANK": str(local_rank)},
            start_new_session=True,
        )
        started[environment.node_rank() * trainer.num_devices + local_rank] = process
        assert process.stdin is not None
        process.stdin.write(order.model_dump_json(by_alias=True).encode())
        process.stdin.close()
    return started


def end_for_first(contact: Contact, tracking: Tracking) -> bool:
    """End the run FAILED where the process that had it is gone, and return whether it had left it RUNNING.

    One on another machine is given time to end it itself.
    """
    first = contact.first
    if first is None:
        return False
    with deferred():
        deadline = time.monotonic() + (UNKNOWN if first.is_elsewhere else DYING)
        while time.monotonic() < deadline and not first.is_gone and (contact.lost or first.is_elsewhere):
            time.sleep(0.1)
        return (first.is_gone or first.is_elsewhere) and end_for_another(tracking, first.run_id, first.obituary)
