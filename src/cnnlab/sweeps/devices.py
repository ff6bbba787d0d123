"""On how many devices each training of a sweep or comparison is, and how a job is told so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from omegaconf import OmegaConf

from cnnlab.job import Job
from cnnlab.settings.commands import Trainer


def spread(job: Job, devices: object) -> Job:
    """Return the job whose trainings are spread over so many devices; more than one makes settings of it."""
    if not isinstance(devices, int) or isinstance(devices, bool) or devices < 2:
        return job
    wanted: dict[str, object] = {"trainer.devices": devices}
    if OmegaConf.select(job.config, "trainer.strategy") == "auto":
        wanted["trainer.strategy"] = "ddp"
    return fixed(job, wanted)


def check_devices(trainer: Trainer, workers: str, groups: str | None = None) -> list[str]:
    """Return what is wrong with a trainer that would spread one training over devices that `workers` share out.

    `groups` is the setting that gives each training several, where there is one.
    """
    several = f"; {groups}={trainer.devices} gives each training a group of its own" if groups else ""
    return [
        f"trainer.{key}={value!r}: every training is on one device, the others take other trainings; "
        f"trainer.{key} takes 1, and {workers} the number of devices{several if key == 'devices' else ''}"
        for key, value in (("devices", trainer.devices), ("num_nodes", trainer.num_nodes))
        if value not in (1, "1", "auto")
    ]


def fixed(job: Job, wanted: Mapping[str, object]) -> Job:
    """Return the job with these settings, as if its command had named them."""
    config = job.config.copy()
    for key, value in wanted.items():
        OmegaConf.update(config, key, value)
    return replace(job, config=config, overrides=(*job.overrides, *(f"{key}={wanted[key]}" for key in wanted)))
