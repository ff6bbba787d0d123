"""The state of one training of a stack as its own file, from which Lightning goes on with it alone."""

from __future__ import annotations

import math
from functools import partial

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from cnnlab.classifier import Classifier
from cnnlab.durable import write
from cnnlab.fused.optimizer import StackedOptimizer
from cnnlab.models import trained
from cnnlab.optimizers import KerasAdam, KerasRMSprop
from cnnlab.plan import Plan


def write_state(plan: Plan, moments: StackedOptimizer, place: int, epoch: int, began: float, numbers: Tensor) -> None:
    """Write to the plan's `last.file` what Lightning would have written after an epoch, counted from 1.

    The classifier has the weights by now; `moments` are the stack's, with the training at `place`. It began at `began`,
    by time.perf_counter(); `numbers` is the state of torch's generator with which its dropout goes on.
    """
    trainer, classifier, last = plan.trainer, plan.classifier, plan.last
    optimizer = own_optimizer(classifier, moments, place)
    schedulers = []
    if classifier.make_scheduler is not None:
        total = moments.steps // epoch * (trainer.max_epochs or epoch)
        schedule = classifier.make_scheduler(optimizer, total).scheduler
        for _ in range(moments.steps):
            schedule.optimizer._opt_called = True  # type: ignore[attr-defined]
            schedule.step()
        schedulers.append(schedule.state_dict())
    last.started = began
    callbacks = {
        callback.state_key: state
        for callback in trainer.callbacks  # type: ignore[attr-defined]
        if (state := callback.state_dict())
    }
    callbacks[last.state_key]["random"][0]["torch"] = numbers
    content: dict[str, object] = {
        "epoch": epoch,
        "global_step": moments.steps,
        "pytorch-lightning_version": pl.__version__,
        "state_dict": classifier.state_dict(),
        "loops": {"fit_loop": progress(trainer, epoch, moments.steps)},
        "callbacks": callbacks,
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": schedulers,
    }
    classifier.on_save_checkpoint(content)
    last.file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = last.file.with_suffix(".part")
    write(unfinished, partial(torch.save, content))
    unfinished.replace(last.file)


def own_optimizer(classifier: Classifier, moments: StackedOptimizer, place: int) -> Optimizer:
    """Return the optimizer of one network with its moments, after as many steps."""
    assert classifier.make_optimizer is not None
    weights = trained(classifier.network)
    optimizer = classifier.make_optimizer(weights)
    names = ("momentum_buffer",)
    if len(moments.moments) == 2 or isinstance(optimizer, KerasRMSprop):
        names = ("velocity", "momentum") if isinstance(optimizer, KerasRMSprop) else ("exp_avg", "exp_avg_sq")  # type: ignore[assignment]
    for number, weight in enumerate(weights):
        state = {name: kind[number][place].clone() for name, kind in zip(names, moments.moments, strict=False)}
        if "exp_avg" in state:
            state["step"] = torch.tensor(float(moments.steps))
        optimizer.state[weight] = state
    if isinstance(optimizer, KerasAdam):
        (group,) = optimizer.param_groups
        shrunk = math.sqrt(1 - group["betas"][1] ** moments.steps)
        group |= {"epsilon": group["eps"], "steps": moments.steps, "eps": group["eps"] / shrunk}
    return optimizer


def progress(trainer: pl.Trainer, epoch: int, steps: int) -> dict[str, object]:
    """Return where Lightning's loops are after so many epochs and optimizer steps."""
    state = trainer.fit_loop.state_dict()
    done = {"ready": steps, "completed": steps}
    state["epoch_loop.state_dict"]["_batches_that_stepped"] = steps
    state["epoch_loop.batch_progress"]["total"] = {**done, "started": steps, "processed": steps}
    state["epoch_loop.scheduler_progress"]["total"] = done
    taken = state["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]
    taken["step"]["total"], taken["zero_grad"]["total"] = done, {**done, "started": steps}
    ended = dict.fromkeys(("ready", "completed", "started", "processed"), epoch)
    state["epoch_progress"] = {"total": ended, "current": dict(ended)}
    return state
