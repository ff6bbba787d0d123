"""The state of a training after each of its epochs, from which it goes on as if it had never been stopped."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch import distributed

from cnnlab.durable import sync
from cnnlab.errors import UNREADABLE, one_line

LAST, BEFORE = "last.ckpt", "before_last.ckpt"
PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")  # of what ModelCheckpoint remembers
OURS = (LAST, BEFORE)  # in a folder of checkpoints, beside the best one


class RandomNumbers(TypedDict):
    """The state of every generator of a process, as a checkpoint can hold it."""

    torch: torch.Tensor
    cuda: list[torch.Tensor]
    numpy: tuple[str, torch.Tensor, int, int, float]  # with its 624 numbers as int64
    python: tuple[int, list[int], float | None]


@dataclass(frozen=True)
class State:
    """Where a training was after `epoch` epochs: the file, the metrics of each of them, and the seconds they took.

    `best` is the best checkpoint until then, `content` all that the file holds.
    """

    file: Path
    epoch: int
    epochs: Mapping[int, Mapping[str, float]]
    seconds: float
    best: Path | None
    content: Mapping[str, object]


class LastCheckpoint(pl.Callback):
    """Writes the state of a training to `file` after each epoch, once everything else about the epoch is kept.

    It holds weights, optimizer, schedule, moving average, what the callbacks remember, the random numbers of each
    process, and the metrics of all epochs. Written to another file, synced and renamed, so that it is never half a
    file; the one before stays beside it. Comes first among the callbacks: the others then begin the epoch, or end the
    training, after their state is kept, and Lightning's WeightAveraging has not yet replaced the weights.
    """

    def __init__(self, file: Path, *, sync: bool = True):
        self.file = file
        self.sync = sync
        self.epochs: dict[int, Mapping[str, float]] = {}
        self.seconds = 0.0  # of earlier parts of the training
        self.random: list[RandomNumbers] = []
        self.extends = False  # whether another run goes on with a training that had ended
        self.writing = False

    def see(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Remember the metrics of an epoch, counted from 1."""
        self.epochs[epoch] = dict(metrics)

    def go_on(self, state: State) -> None:
        """Begin with a state; Lightning loads the file itself."""
        self.epochs = {epoch: dict(metrics) for epoch, metrics in state.epochs.items()}
        self.seconds = state.seconds
        self.extends = state.file.parent != self.file.parent  # each run has a folder of its own

    def state_dict(self) -> dict[str, object]:
        # Plain texts as names, or the file would hold a class and not be loaded.
        seen = {epoch: {str(key): float(value) for key, value in row.items()} for epoch, row in self.epochs.items()}
        seconds = self.seconds + time.perf_counter() - self.started
        return {"epochs": seen, "seconds": seconds, "random": of_all_processes(random_numbers())}

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        kept = state_dict["random"]
        assert isinstance(kept, list)
        self.random = kept

    def on_save_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict) -> None:
        """Let a state say that its last epoch has ended and no batch of the next has begun."""
        if not self.writing:
            return
        loops = checkpoint["loops"]["fit_loop"]
        for counted in (loops["epoch_progress"]["current"], loops["epoch_progress"]["total"]):
            counted["ready"] = counted["processed"]  # Lightning has announced the next epoch already
        batches = loops["epoch_loop.batch_progress"]
        batches["current"] = dict.fromkeys(batches["current"], 0)
        batches["is_last_batch"] = False

    def on_load_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict) -> None:
        """Let the best checkpoint be where it is now, or be chosen anew where a later epoch had taken its place."""
        states, folder = checkpoint["callbacks"], self.file.parent
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if not isinstance(callback, ModelCheckpoint) or Path(str(callback.dirpath)) != folder:
                continue
            state = states.get(callback.state_key)
            if state is None or not (folder / Path(state["best_model_path"]).name).is_file():
                states.pop(callback.state_key, None)
                continue
            moved = {str(folder / Path(path).name): score for path, score in state["best_k_models"].items()}
            paths = {key: str(folder / Path(state[key]).name) for key in PATHS if state[key]}
            states[callback.state_key] = state | paths | {"dirpath": str(folder), "best_k_models": moved}

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.started = time.perf_counter()
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, EarlyStopping) and callback.stopped_epoch:
                trainer.should_stop = not self.extends  # Lightning has forgotten it
                callback.stopped_epoch = 0 if self.extends else callback.stopped_epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.random:
            set_random_numbers(self.random[min(trainer.global_rank, len(self.random) - 1)])
            self.random = []
        elif trainer.current_epoch > 0:
            self.write(trainer)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.write(trainer)

    def write(self, trainer: pl.Trainer) -> None:
        """Write the state; all processes of the training take part."""
        unfinished = self.file.with_suffix(".part")
        self.file.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.writing = True
            trainer.save_checkpoint(unfinished)
            if not trainer.is_global_zero:
                return
            if self.sync:
                sync(unfinished)
            if self.file.name == LAST and self.file.exists():
                self.file.replace(self.file.with_name(BEFORE))
            unfinished.replace(self.file)
            if self.sync:
                sync(self.file.parent)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
        finally:
            self.writing = False


def find_state(folder: Path) -> tuple[State | None, list[str]]:
    """Return the latest state in a folder of checkpoints that can be read, and a line for each that cannot."""
    problems: list[str] = []
    for file in (folder / name for name in OURS):
        if not file.is_file():
            continue
        try:
            return read_state(file), problems
        except UNREADABLE as error:
            problems.append(f"{file} cannot be read: {one_line(error)}")
    return None, problems


def read_state(file: Path) -> State:
    """Return what a file says of a training; raises one of UNREADABLE where it is no state, or not whole."""
    content = torch.load(file, map_location="cpu", weights_only=True)
    kept = content["callbacks"][LastCheckpoint.__name__]
    epochs = {int(epoch): dict(metrics) for epoch, metrics in kept["epochs"].items()}
    best = [
        state["best_model_path"]
        for key, state in content["callbacks"].items()
        if key.startswith(ModelCheckpoint.__name__) and Path(state["dirpath"]).resolve() == file.parent.resolve()
    ]
    return State(file, max(epochs), epochs, float(kept["seconds"]), Path(best[0]) if any(best) else None, content)


def remove_later(folder: Path, state: State | None) -> None:
    """Remove the checkpoints of epochs that a state does not know: they will be written again."""
    known = {folder / name for name in OURS} | ({state.best} if state and state.best else set())
    for file in folder.glob("*.ckpt"):
        if file not in known:
            file.unlink()


def random_numbers() -> RandomNumbers:
    """Return the state of every generator of this process."""
    name, keys, place, has_gauss, gauss = np.random.get_state(legacy=True)
    version, numbers, next_gauss = random.getstate()
    return RandomNumbers(
        torch=torch.get_rng_state(),
        cuda=torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        numpy=(
            str(name),
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(place),
            int(has_gauss),
            float(gauss),
        ),
        python=(version, list(numbers), next_gauss),
    )


def set_random_numbers(state: RandomNumbers) -> None:
    """Put every generator of this process into a state that `random_numbers` returned."""
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count() > 0:
        torch.cuda.set_rng_state_all(state["cuda"])
    name, keys, place, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), place, has_gauss, gauss))
    version, numbers, next_gauss = state["python"]
    random.setstate((version, tuple(numbers), next_gauss))


def of_all_processes(state: RandomNumbers) -> list[RandomNumbers]:
    """Return the states of all processes of a training, by their rank."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [state]
    found = [state] * distributed.get_world_size()
    distributed.all_gather_object(found, state)
    return found
