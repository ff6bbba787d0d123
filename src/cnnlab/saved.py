"""A trained classifier rebuilt from its checkpoint alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from cnnlab.classifier import Classifier
from cnnlab.data.scaling import Scaling
from cnnlab.errors import UsageError
from cnnlab.plan import build_network, build_partial
from cnnlab.tracking.find import download_checkpoint, find_run, open_client
from cnnlab.tracking.history import History, epoch_history


@dataclass(frozen=True, eq=False)
class Saved:
    """A classifier in evaluation mode, with what it was trained on and where it came from.

    `epoch` counts from 1; `run_id` and `history` are None and empty for a checkpoint that came as a file.
    """

    classifier: Classifier
    config: Mapping[str, Any]
    input_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    border: float | None
    epoch: int
    checkpoint: Path
    run_id: str | None
    history: History


def find_saved(config: Mapping[str, Any]) -> Saved:
    """Return the classifier that `run` (of `tracking.uri`) or `checkpoint` names.

    Raises UsageError where there is no such run or file, or both or neither are given.
    """
    wanted, file = config["run"], config["checkpoint"]
    if (wanted is None) == (file is None):
        raise UsageError("give either run=RUN_ID (or run=best dataset=NAME) or checkpoint=PATH")
    if file is not None:
        return load_saved(Path(str(file)).expanduser())
    names = [(config.get(group) or {}).get("name") for group in ("dataset", "model")]
    client = open_client(config["tracking"]["uri"])
    run = find_run(client, str(wanted), *names)
    run_id = run.info.run_id
    return load_saved(download_checkpoint(client, run), run_id, epoch_history(client, run_id))


def load_saved(path: Path, run_id: str | None = None, history: History | None = None) -> Saved:
    """Return the classifier of a checkpoint file; raises UsageError where it is missing or not one of cnnlab's."""
    if not path.is_file():
        near = sorted(item.name for item in path.parent.glob("*.ckpt")) if path.parent.is_dir() else []
        hint = f"; the folder holds {', '.join(near[:3])}" if near else ""
        raise UsageError(f"checkpoint={path} is not a file{hint}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise UsageError(f"checkpoint={path} cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict) or "cnnlab" not in content:
        raise UsageError(f"checkpoint={path} was not written by cnnlab: it does not say which network it belongs to")
    described = content["cnnlab"]
    config, shape, names = described["config"], tuple(described["input_shape"]), tuple(described["class_names"])
    network = build_network(config, shape, len(names))
    make_optimizer = build_partial("optimizer", config["optimizer"])
    classifier = Classifier(Scaling(shape[0]), network, config["regularization"], make_optimizer, None, described)
    classifier.load_state_dict(content["state_dict"])
    return Saved(
        classifier=classifier.eval(),
        config=config,
        input_shape=shape,
        class_names=names,
        border=described.get("border"),
        epoch=int(content["epoch"]) + 1,
        checkpoint=path,
        run_id=run_id,
        history=history or {},
    )
