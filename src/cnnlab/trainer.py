"""Lightning's Trainer from Lightning's own flags, refused in one line where they do not fit the machine."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.plugins.environments import (
    LightningEnvironment,
    LSFEnvironment,
    MPIEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from pytorch_lightning.plugins.precision import DeepSpeedPrecision, FSDPPrecision, Precision
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from cnnlab.batch_norm import WholeBatchNorm
from cnnlab.epoch_loop import EpochLoop
from cnnlab.errors import UsageError, nearest
from cnnlab.settings.commands import Trainer as Settings

# Ours to decide: the screen, the record and the checkpoints of a run are cnnlab's.
OURS = {"callbacks", "logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"}


# What may have started all processes of a training already.
LAUNCHERS = (TorchElasticEnvironment, SLURMEnvironment, LSFEnvironment, MPIEnvironment)
COPIES = ("spawn", "fork", "notebook")


class OwnProcesses(LightningEnvironment):
    """A machine on which `cnnlab.ranks` starts the processes, and not Lightning."""

    @property
    def creates_processes_externally(self) -> bool:
        return True


class NoProfiler(PassThroughProfiler):
    """Profiles nothing, in less time than Lightning's own, which enters a generator two dozen times a step."""

    nothing = nullcontext()

    def profile(self, action_name: str) -> nullcontext:  # type: ignore[override]
        return self.nothing


def build_trainer(settings: Settings, callbacks: list[pl.Callback], loggers: list[Logger]) -> pl.Trainer:
    """Return the Trainer; raises UsageError for flags Lightning does not have and devices the machine does not have."""
    flags = settings.flags
    allowed = set(inspect.signature(pl.Trainer.__init__).parameters) - {"self"} - OURS
    problems = [unknown_flag(name, sorted(allowed)) for name in flags if name not in allowed]
    problems += _check_cpu_devices(settings)
    problems += _check_torchrun(settings) + _check_machines(settings)
    if any(word in settings.strategy for word in COPIES):
        problems.append(
            f"trainer.strategy={settings.strategy!r}: trains in copies of this process, which cannot keep the run; "
            "trainer.strategy takes ddp, or another whose processes are started anew"
        )
    if problems:
        raise UsageError(*problems)
    ours: dict[str, object] = {"num_sanity_val_steps": 0, "log_every_n_steps": 0, "profiler": NoProfiler()}
    ours |= flags
    plugins: list[object] = []
    if settings.accelerator == "cpu" and settings.sync_batchnorm:
        ours["sync_batchnorm"] = False
        plugins.append(WholeBatchNorm())
    if not settings.deterministic and torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(False)  # as an earlier training in this process wanted them
    one = str(settings.devices) == "1" and settings.num_nodes == 1
    if not one and not _launched():
        plugins.append(OwnProcesses())
    if plugins:
        ours["plugins"] = plugins
    ours |= {"callbacks": callbacks, "logger": loggers, "enable_progress_bar": False, "enable_model_summary": False}
    try:
        trainer = pl.Trainer(**ours)  # type: ignore[arg-type]
    except (MisconfigurationException, ValueError, TypeError, RuntimeError, ImportError) as error:
        given = ", ".join(f"trainer.{name}={flags.get(name)}" for name in ("accelerator", "devices", "strategy"))
        message = " ".join(str(error).split())
        raise UsageError(f"{given}, trainer.precision={settings.precision}: {message}") from error
    usual = trainer.fit_loop.epoch_loop
    trainer.fit_loop.epoch_loop = EpochLoop(trainer, usual.min_steps, usual.max_steps)
    return trainer


@contextmanager
def in_single_precision(trainer: pl.Trainer) -> Iterator[None]:
    """Let the trainer compute in float32 inside the block, whatever `trainer.precision` is."""
    strategy, training = trainer.strategy, trainer.strategy.precision_plugin
    own = type(training) if isinstance(training, DeepSpeedPrecision | FSDPPrecision) else None  # they take no other
    strategy.precision_plugin = own("32-true") if own else Precision()
    try:
        yield
    finally:
        strategy.precision_plugin = training


def unknown_flag(name: str, allowed: list[str]) -> str:
    """Return the line for a flag that Lightning's Trainer does not have."""
    return f"trainer.{name} is no flag of Lightning's Trainer; allowed: {', '.join(allowed)}{nearest(name, allowed)}"


def _launched() -> bool:
    """Return whether somebody else has started this process as one of several."""
    return "LOCAL_RANK" in os.environ or any(launcher.detect() for launcher in LAUNCHERS)


def _check_machines(settings: Settings) -> list[str]:
    """Refuse several machines that cannot find each other."""
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK") if name not in os.environ]
    if settings.num_nodes == 1 or not missing or _launched():
        return []
    return [
        f"trainer.num_nodes={settings.num_nodes}, but nothing says where the other machines are: start the command on "
        f"each of them by torchrun or srun (docs/many_devices.md), or set {', '.join(missing)}"
    ]


def _check_torchrun(settings: Settings) -> list[str]:
    """Refuse processes of torchrun's that the settings do not ask for: each would train by itself."""
    if not TorchElasticEnvironment.detect():
        return []
    world, local = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
    devices, nodes = settings.devices, settings.num_nodes
    count = len(devices) if isinstance(devices, list) else devices
    if nodes == world // local and str(count) in (str(local), "auto", "-1"):
        return []
    return [
        f"trainer.devices={devices} trainer.num_nodes={nodes}, but torchrun has started {world} processes, {local} on "
        f"this machine; give trainer.devices={local} trainer.num_nodes={world // local}"
    ]


def _check_cpu_devices(settings: Settings) -> list[str]:
    """Refuse more devices than there are where `auto` finds only the CPU, which would take any number of processes."""
    devices, accelerator = settings.devices, settings.accelerator
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
