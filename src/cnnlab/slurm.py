"""A training under SLURM: queued again when its time is up, and then gone on with."""

from __future__ import annotations

import os
import subprocess
import time

from omegaconf import OmegaConf

from cnnlab.job import Job
from cnnlab.signals import WARNED
from cnnlab.tracking.find import open_client, results
from cnnlab.tracking.provenance import command_tags
from cnnlab.tracking.schema import Tag

BEFORE_END = 120  # seconds: a SIGTERM that comes so shortly before the job's end is SLURM's, not somebody's scancel


def job_id() -> str | None:
    """Return the id of the SLURM job that this process belongs to, as `scontrol` takes it; None outside of one."""
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ.get('SLURM_ARRAY_TASK_ID', '0')}"
    return os.environ.get("SLURM_JOB_ID")


def requeued_run(job: Job) -> str | None:
    """Return the run that this command began before its SLURM job was queued again; None where there is none."""
    if job_id() is None or os.environ.get("SLURM_RESTART_COUNT", "0") == "0":
        return None
    open_client(str(OmegaConf.select(job.config, "tracking.uri")))
    overrides = command_tags(job)[Tag.OVERRIDES]
    for run in results(f"tags.`{Tag.SLURM_JOB}` = '{job_id()}'"):
        if run.data.tags.get(Tag.OVERRIDES) == overrides and run.info.status != "FINISHED":
            return str(run.info.run_id)
    return None


def requeue(signal_name: str) -> list[str]:
    """Queue this SLURM job again where it was SLURM that stopped it; return a line that says so, or why not."""
    identity = job_id()
    if identity is None or not stopped_by_slurm(signal_name):
        return []
    try:
        done = subprocess.run(["scontrol", "requeue", identity], capture_output=True, text=True, timeout=20)
        problem = done.stderr.strip() or f"exit code {done.returncode}" if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    if problem:
        return [f"SLURM job {identity} could not be queued again: {problem}"]
    return [f"SLURM job {identity} is queued again and will go on with the run"]


def stopped_by_slurm(signal_name: str) -> bool:
    """Return whether the job's time is up: its warning came (`sbatch --signal=USR1@90`), or SIGTERM at its end.

    Somebody's `scancel` sends SIGTERM too, and must not bring the job back. SLURM itself queues what it preempts.
    """
    if signal_name in WARNED:
        return True
    end = os.environ.get("SLURM_JOB_END_TIME", "")
    return signal_name == "SIGTERM" and end.isdigit() and time.time() > int(end) - BEFORE_END
