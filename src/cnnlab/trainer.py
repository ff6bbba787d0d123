"""Lightning's Trainer from Lightning's own flags, refused in one line where they do not fit the machine."""

from __future__ import annotations

import inspect
import logging
import os
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from cnnlab.errors import UsageError, unknown

# Ours to decide: the screen, the record and the checkpoints of a run are cnnlab's.
OURS = {"callbacks", "logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"}


class NoProfiler(PassThroughProfiler):
    """Profiles nothing, in less time than Lightning's own, which enters a generator two dozen times a step."""

    nothing = nullcontext()

    def profile(self, action_name: str) -> nullcontext:  # type: ignore[override]
        return self.nothing


def build_trainer(flags: Mapping[str, Any], callbacks: list[pl.Callback], logger: Logger) -> pl.Trainer:
    """Return the Trainer; raises UsageError for flags Lightning does not have and devices the machine does not have."""
    allowed = set(inspect.signature(pl.Trainer.__init__).parameters) - {"self"} - OURS
    problems = [unknown("trainer flag", name, sorted(allowed)) for name in flags if name not in allowed]
    problems += _check_cpu_devices(flags)
    if problems:
        raise UsageError(*problems)
    _quiet()
    _spare_driver_questions()
    defaults: dict[str, Any] = {"num_sanity_val_steps": 0, "log_every_n_steps": 0, "profiler": NoProfiler()}
    try:
        return pl.Trainer(
            **(defaults | dict(flags)),
            callbacks=callbacks,
            logger=logger,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        given = ", ".join(f"trainer.{name}={flags.get(name)}" for name in ("accelerator", "devices", "strategy"))
        message = " ".join(str(error).split())
        raise UsageError(f"{given}, trainer.precision={flags.get('precision')}: {message}") from error


def _check_cpu_devices(flags: Mapping[str, Any]) -> list[str]:
    """Refuse more devices than there are where `auto` finds only the CPU, which would take any number of processes."""
    devices, accelerator = flags.get("devices"), flags.get("accelerator")
    if accelerator not in ("auto", "cpu") or not str(devices).isdigit():
        return []
    if accelerator == "auto" and pl.accelerators.CUDAAccelerator.is_available():
        return []
    cores = os.cpu_count() or 1
    if accelerator == "auto" and int(str(devices)) > 1:
        return [
            f"trainer.devices={devices}, but this machine has 1 device, its CPU; "
            "trainer.devices takes 1 here (trainer.accelerator=cpu allows one process a core)"
        ]
    if int(str(devices)) > cores:
        return [f"trainer.devices={devices}, but this machine has {cores} CPU cores; allowed: 1 to {cores}"]
    return []


def _spare_driver_questions() -> None:
    """Say once that there is no CUDA device, where there is none.

    torch's CUDA build asks at every optimizer step (`_accelerator_graph_capture_health_check`), and without a driver
    each question is a failed attempt to load it: 0.13 ms, a tenth of a small network's step.
    """
    if not torch.cuda.is_available():
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


def _quiet() -> None:
    """Keep the libraries' chatter off the screen: it would bury what the run itself says."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric", "mlflow", "matplotlib"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (".*isinstance.treespec, LeafSpec.*", ".*No complete tensor found.*"):
        warnings.filterwarnings("ignore", message)
