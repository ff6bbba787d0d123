"""The composed configuration: checked key by key, every problem at once, and turned into plain values."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnlab.errors import UsageError, unknown
from cnnlab.metrics import monitors

# A rule takes a value and returns what is allowed instead, or None where the value is fine.
Rule = Callable[[Any], str | None]


def whole(lowest: int, highest: float = math.inf) -> Rule:
    """Return the rule for whole numbers from `lowest` to `highest`."""

    def rule(value: Any) -> str | None:
        fine = isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest
        end = "" if highest == math.inf else f" and at most {highest}"
        return None if fine else f"a whole number of at least {lowest}{end}"

    return rule


def number(lowest: float, below: float = math.inf, *, open_start: bool = False) -> Rule:
    """Return the rule for finite numbers in [lowest, below), or (lowest, below) with `open_start`."""

    def rule(value: Any) -> str | None:
        fine = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if fine and (lowest < value or (lowest == value and not open_start)) and value < below:
            return None
        start = f"above {lowest:g}" if open_start else f"of at least {lowest:g}"
        return f"a number {start}" + ("" if below == math.inf else f" and below {below:g}")

    return rule


def flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def text(value: Any) -> str | None:
    return None if isinstance(value, str) and value.strip() else "a text that is not empty"


def pair(rule: Rule) -> Rule:
    """Return the rule for two values that both follow `rule`."""

    def both(value: Any) -> str | None:
        fine = isinstance(value, list) and len(value) == 2 and all(rule(item) is None for item in value)
        return None if fine else f"two values, each {rule(None)}"

    return both


def optional(rule: Rule) -> Rule:
    """Return the rule for a value that may also be null."""

    def with_null(value: Any) -> str | None:
        allowed = None if value is None else rule(value)
        return allowed and f"{allowed}, or null"

    return with_null


PLACES = ("dataset.root", "dataset.download", "dataset.batch_size", "trainer.accelerator")
TRAINING = ("dataset", "model", "regularization", "augmentation", "optimizer", "scheduler", "trainer", "callbacks")
SECTIONS = (*TRAINING, "tracking", "figures")
PARTS = (("dataset", "validation"), ("callbacks", "checkpoint"))
SHARE = number(0, 1)
RULES: dict[str, Rule] = {
    "seed": whole(0, 2**32 - 1),  # what numpy takes
    "batch_size": whole(1),
    "evaluation_batch_size": whole(1),
    "regularization.label_smoothing": SHARE,
    "regularization.l2": number(0),
    "regularization.l1": number(0),
    "optimizer.lr": number(0, open_start=True),
    "optimizer.betas": pair(SHARE),
    "optimizer.eps": number(0, open_start=True),
    "optimizer.rho": SHARE,
    "optimizer.momentum": SHARE,
    "optimizer.weight_decay": number(0),
    "optimizer.nesterov": flag,
    "optimizer.fused": optional(flag),
    "scheduler.warmup_fraction": SHARE,
    "scheduler.final_factor": number(0),
    "augmentation.max_shift": whole(1),
    "augmentation.flip": flag,
    "augmentation.size": whole(1),
    "augmentation.alpha": number(0, open_start=True),
    "augmentation.degrees": number(0, 180),
    "augmentation.shear": number(0, 90),
    "augmentation.scale": SHARE,
    "augmentation.translate": SHARE,
    "dataset.validation.fraction": SHARE,
    "dataset.validation.seed": whole(0, 2**32 - 1),
    "trainer.max_epochs": whole(1),
    "trainer.num_nodes": whole(1),
    "callbacks.early_stopping.patience": whole(0),
    "callbacks.ema_decay": optional(SHARE),
    "tracking.uri": text,
    "tracking.experiment_name": text,
    "tracking.run_name": text,
    "tracking.log_model": flag,
    "tracking.system_metrics": flag,
    "figures.enabled": flag,
    "figures.skip_epochs": whole(0),
    "figures.mistakes": whole(1),
    "figures.samples": whole(1),
    "figures.diagram": flag,
    "tracking.system_metrics_interval": number(0, open_start=True),
}


def resolve(config: DictConfig) -> dict[str, Any]:
    """Return the configuration as plain dicts, lists and values, its interpolations filled in.

    Raises UsageError where an interpolation leads nowhere or a mandatory value is missing.
    """
    try:
        values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UsageError(f"configuration: {str(error).splitlines()[0]}") from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def check(config: Mapping[str, Any]) -> list[str]:
    """Return one line for every value that is out of its range, in the order of the rules."""
    absent = [f"{name} is missing" for name in SECTIONS if not isinstance(config.get(name), Mapping)]
    if absent:
        return absent
    absent = [f"{'.'.join(path)} is missing" for path in PARTS if not isinstance(config[path[0]].get(path[1]), Mapping)]
    if absent:
        return absent
    flat = flatten(config)
    problems = [
        f"{key}={flat[key]!r} is not allowed; {key} takes {allowed}"
        for key, rule in RULES.items()
        if key in flat and (allowed := rule(flat[key])) is not None
    ]
    return problems + _check_monitors(config)


def _check_monitors(config: Mapping[str, Any]) -> list[str]:
    problems = []
    no_validation = flatten(config).get("dataset.validation.fraction") == 0
    for name in ("checkpoint", "early_stopping"):
        section = config["callbacks"].get(name)
        monitor = section and section.get("monitor")
        if monitor is None:
            continue
        if monitor not in monitors():
            problems.append(unknown(f"callbacks.{name}.monitor", monitor, monitors()))
        elif monitor.startswith("val/") and no_validation:
            problems.append(
                f"callbacks.{name}.monitor={monitor!r} needs a validation split, but dataset.validation.fraction=0; "
                "give it a fraction or choose callbacks=last_checkpoint"
            )
    return problems


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return `{'model.name': 'mlp', ...}`: one entry a leaf, lists kept whole, as Hydra writes overrides."""
    leaves: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            leaves.update(flatten(value, f"{prefix}{key}."))
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def settings_digest(config: Mapping[str, Any]) -> str:
    """Return 12 hexadecimal digits that two configurations share which differ in nothing but the seed and the place.

    The place is where data lies, where the run is tracked, and which pictures are drawn of it.
    """
    settings = {"batch_size": config["batch_size"]} | {name: config[name] for name in TRAINING}
    flat = {key: value for key, value in flatten(settings).items() if key not in PLACES}
    return hashlib.blake2b(json.dumps(flat, sort_keys=True, default=str).encode(), digest_size=6).hexdigest()


def as_yaml(config: Mapping[str, Any]) -> str:
    """Return the resolved configuration as the YAML text that is kept with the run."""
    return OmegaConf.to_yaml(OmegaConf.create(dict(config)))
