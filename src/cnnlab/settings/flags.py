"""Flags of Lightning's Trainer beyond those in conf/, and what each takes: Lightning finds some wrong values too late.

`accumulate_grad_batches=0` divides by zero in the first step, when the run is already open.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from cnnlab.errors import refused
from cnnlab.settings.base import Count, NotNegative, Whole

Form = object  # a type, as annotations write it
Part = Annotated[float, Field(gt=0, le=1)]
Batches = Count | Part
SHARE = "a whole number of batches of at least 1, or a share of them above 0 and at most 1"
FLAGS: dict[str, tuple[Form, str]] = {
    "accumulate_grad_batches": (Count, "a whole number of at least 1"),
    "gradient_clip_val": (NotNegative | None, "a number of at least 0, or null"),
    "gradient_clip_algorithm": (Literal["norm", "value"] | None, "norm, value, or null"),
    "limit_train_batches": (Batches | None, SHARE),
    "limit_val_batches": (Batches | None, SHARE),
    "limit_test_batches": (Batches | None, SHARE),
    "min_epochs": (Count | None, "a whole number of at least 1, or null"),
    "min_steps": (Count | None, "a whole number of at least 1, or null"),
    "max_steps": (Annotated[int, Field(ge=1)] | Literal[-1], "a whole number of at least 1, or -1"),
    "log_every_n_steps": (Whole | None, "a whole number of at least 0"),
    "num_sanity_val_steps": (Annotated[int, Field(ge=-1)] | None, "a whole number of at least -1"),
    "benchmark": (bool | None, "true, false, or null"),
    "detect_anomaly": (bool, "true or false"),
    "inference_mode": (bool, "true or false"),
    "sync_batchnorm": (bool, "true or false"),
    "use_distributed_sampler": (bool, "true or false"),
    "enable_autolog_hparams": (bool, "true or false"),
}
# What a run needs to be a result: a validation after each epoch, all of its data, and a checkpoint.
NEEDED = "every run here trains on all its images, validates after each epoch and keeps a checkpoint"
AGAINST: dict[str, object] = {
    "fast_dev_run": False,
    "overfit_batches": 0.0,
    "barebones": False,
    "check_val_every_n_epoch": 1,
    "val_check_interval": None,
    "reload_dataloaders_every_n_epochs": 0,
}


def problems(flags: Mapping[str, object], path: str) -> Iterator[str]:
    """Yield a line for each flag whose value Lightning would refuse too late, or that a run here cannot have."""
    for name, value in flags.items():
        if name in AGAINST and (value != AGAINST[name] or isinstance(value, bool) != isinstance(AGAINST[name], bool)):
            yield f"{path}{name}={value}: {NEEDED}; leave it out"
        elif name in FLAGS:
            form, allowed = FLAGS[name]
            try:
                TypeAdapter(form, config=ConfigDict(strict=True)).validate_python(value)  # type: ignore[arg-type]
            except ValidationError:
                yield refused(f"{path}{name}", value, allowed)
