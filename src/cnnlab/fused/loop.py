"""Trains several plans as one program, epoch by epoch, until each has ended as it would have by itself."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from pytorch_lightning.callbacks import EarlyStopping
from torch import Tensor

from cnnlab.data.batches import Batches
from cnnlab.errors import diverged
from cnnlab.fused.fitting import MIXED, build_optimizer
from cnnlab.fused.objective import Sums, cross_entropy, penalties
from cnnlab.fused.stack import Stack
from cnnlab.fused.state import write_state
from cnnlab.plan import Plan
from cnnlab.tracking.schema import Metric

LOOK_EVERY = 50  # steps on a GPU, where reading a number waits for all that it was given to do


@dataclass(frozen=True, eq=False)
class Member:
    """One training of a stack, whose weights are drawn.

    `numbers` is the state of torch's generator, from which its dropout goes on. After each epoch `see` is told, of all
    members, then `judge`, which may set the trainer's `should_stop`. `ended` gets the seconds, or why it failed;
    before, where it `goes_on` some other time, its state is written to the plan's `last.file`.
    """

    plan: Plan
    numbers: Tensor
    see: Callable[[int, Mapping[str, float]], None]
    judge: Callable[[int, Mapping[str, float]], None]
    ended: Callable[[float | Exception], None]
    goes_on: Callable[[], bool] = lambda: False


def fit_together(members: Sequence[Member]) -> None:
    """Train all members, whose settings have one shape, and tell each of its epochs and its end.

    The same order of the images and the same first weights as each has by itself. What a member's own listener raises
    ends that member alone; anything else, such as an interruption, all of them.
    """
    loop = Loop(members)
    while loop.members:
        loop.epoch += 1
        loop.train()
        loop.tell()


class Loop:
    """Where the members of a stack are."""

    def __init__(self, members: Sequence[Member]):
        self.members = list(members)
        first = members[0].plan
        self.settings, self.module = first.settings, first.data_module
        self.device = first.trainer.strategy.root_device
        generators = [generator(member, self.device) for member in members]
        self.stack = Stack([member.plan.classifier.network for member in members], generators).to(self.device)
        self.scaling = copy.deepcopy(first.classifier.scaling).to(self.device)
        parameters = list(self.stack.parameters())
        self.optimizer = build_optimizer([member.plan.settings for member in members], parameters, self.stack.kernels())
        self.batches = {member.plan.settings.seed: self.batches_of(member.plan) for member in members}
        steps = len(next(iter(self.batches.values())))
        self.factor = Factor(first, steps)
        self.failures: dict[int, Exception] = {}  # by the place in the stack, of this epoch
        self.epoch = 0
        self.started = time.perf_counter()

    def batches_of(self, plan: Plan) -> Batches:
        """Return the training batches of a plan, in its own order, of images that all plans share."""
        images, labels = self.module.resident("train", self.device)
        settings = plan.settings
        balanced = settings.dataset.balance == "sampler"
        return Batches(images, labels, settings.batch_size, True, settings.seed, balanced=balanced)

    def smoothing(self) -> Tensor | None:
        """Return the label smoothing [K, 1, 1]; None where no member has any."""
        shares = [member.plan.settings.regularization.label_smoothing for member in self.members]
        return torch.tensor(shares, device=self.device).view(-1, 1, 1) if any(shares) else None

    def forward(self, images: Tensor, shared: bool = True) -> Tensor:
        """Return logits [K, B, classes], in float32 at least."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.trainer.precision == MIXED):
            logits = self.stack(images, shared)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def train(self) -> None:
        """Train all members for an epoch."""
        self.began = time.perf_counter()
        self.stack.train()
        self.sums = Sums(len(self.members), self.device)
        smoothing, rates = self.smoothing(), self.optimizer.rates
        seeds = [member.plan.settings.seed for member in self.members]
        kept = {seed: self.batches[seed] for seed in dict.fromkeys(seeds)}
        for batches in kept.values():
            batches.set_epoch(self.epoch - 1)
        steps = len(next(iter(kept.values())))
        for step, some in enumerate(zip(*kept.values(), strict=True)):
            images, labels = self.joined(dict(zip(kept, some, strict=True)), seeds)
            logits = self.forward(images, shared=len(kept) == 1)
            with torch.no_grad():
                loss, fitted, gradient = cross_entropy(logits, labels, smoothing)
                objective = fitted + penalties(self.stack.kernels(), rates.l2, rates.l1)
                self.sums.update(loss, objective, logits, labels)
            if step % (1 if self.device.type == "cpu" else LOOK_EVERY) == 0:
                self.check_finite(self.sums.objective, f"step {step + 1} of {steps}")
            logits.backward(gradient)
            self.rate = self.factor.now
            self.optimizer.step(self.rate)
            self.factor.step()
            if len(self.failures) == len(self.members):
                return
        self.check_finite(self.sums.objective, "its last step")
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds = time.perf_counter() - self.began

    def joined(self, some: Mapping[int, tuple[Tensor, Tensor]], seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the float images and the labels of a step: shared ones, or each member's own by its seed."""
        if len(some) == 1:
            ((images, labels),) = some.values()
            return self.scaled(images), labels.to(self.device)
        scaled = {seed: self.scaled(images) for seed, (images, _) in some.items()}
        own = torch.stack([some[seed][1] for seed in seeds])
        return torch.cat([scaled[seed] for seed in seeds], 1), own.to(self.device)

    def scaled(self, images: Tensor) -> Tensor:
        """Return float images on the device, as the networks get them, of pixels wherever they lie."""
        return self.scaling(images.to(self.device))

    def check_finite(self, values: Tensor, where: str) -> None:
        """Note each member whose loss is no number; it trains on until the epoch's end, beside the others."""
        if bool(values.isfinite().all()):
            return
        rates = self.optimizer.rates.lr
        for place, number in enumerate(values.tolist()):
            if not math.isfinite(number):
                rate = rates[place] * self.factor.now
                self.failures.setdefault(place, diverged(number, self.epoch, where, rate))

    @torch.no_grad()
    def validate(self) -> list[dict[str, float]]:
        """Return what is measured on validation of each member; nothing where there is none."""
        if not len(self.module.validation_index):
            return [{} for _ in self.members]
        images, labels = self.module.resident("validation", self.device)
        size = max(1, self.settings.evaluation_batch_size // len(self.members))
        self.stack.eval()
        parts = [self.forward(self.scaled(part)) for part, _ in Batches(images, labels, size, False, 0)]
        logits, labels = torch.cat(parts, 1), labels.to(self.device)
        rates = self.optimizer.rates
        loss, fitted, _ = cross_entropy(logits, labels, self.smoothing())
        sums = Sums(len(self.members), self.device)
        sums.update(loss, fitted + penalties(self.stack.kernels(), rates.l2, rates.l1), logits, labels)
        self.check_finite(loss, "validation")
        rows = sums.means()
        for row, member, each in zip(rows, self.members, logits, strict=True):
            measures = member.plan.classifier.measures
            if measures is not None:
                measures.update(each, labels)
                row |= {name: float(value) for name, value in measures.compute().items()}
        return rows

    def tell(self) -> None:
        """Tell each member of the epoch, end those that have ended, and go on with the others."""
        rows = [{}] * len(self.members) if len(self.failures) == len(self.members) else self.measured()
        ends: dict[int, float | Exception] = dict(self.failures)
        self.failures = {}
        for tells in (self.see, lambda member, row: member.judge(self.epoch, row)):
            for place, (member, row) in enumerate(zip(self.members, rows, strict=True)):
                if place not in ends:
                    try:
                        tells(member, row)
                    except Exception as error:
                        ends[place] = error
        for place, member in enumerate(self.members):
            trainer = member.plan.trainer
            if place not in ends and (trainer.should_stop or self.epoch == trainer.max_epochs):
                member.plan.classifier.network.load_state_dict(self.stack.state(place))
                member.plan.classifier.to(self.device)
                if member.goes_on():
                    numbers = self.stack.generators[place].get_state() if self.device.type == "cpu" else member.numbers
                    write_state(member.plan, self.optimizer, place, self.epoch, self.started, numbers)
                ends[place] = time.perf_counter() - self.started
        kept = [place for place in range(len(self.members)) if place not in ends]
        told = [(member, ends[place]) for place, member in enumerate(self.members) if place in ends]
        if kept and told:
            self.stack.keep(kept)
            self.optimizer.keep(kept, list(self.stack.parameters()))
        self.members = [self.members[place] for place in kept]
        for member, end in told:
            member.ended(end)

    def measured(self) -> list[dict[str, float]]:
        """Return the metrics of the epoch of each member, as the classifier logs them."""
        trained, validated = self.sums.means(), self.validate()
        rows = []
        for place, (seen, held_out) in enumerate(zip(trained, validated, strict=True)):
            row = {f"train/{name}": value for name, value in seen.items()}
            row |= {f"val/{name}": value for name, value in held_out.items()}
            row[Metric.EPOCH_SECONDS] = time.perf_counter() - self.began
            row[Metric.SPEED] = self.sums.images / self.seconds
            row[Metric.LEARNING_RATE] = self.optimizer.rates.lr[place] * self.rate
            rows.append(row)
        return rows

    def see(self, member: Member, row: Mapping[str, float]) -> None:
        """Let early stopping decide, and tell the member of its epoch."""
        trainer = member.plan.trainer
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, EarlyStopping):
                stop, _ = callback._evaluate_stopping_criteria(torch.tensor(row[callback.monitor]))
                trainer.should_stop = trainer.should_stop or stop
                callback.stopped_epoch = self.epoch - 1 if stop else callback.stopped_epoch
        member.plan.last.see(self.epoch, row)
        member.see(self.epoch, row)


class Factor:
    """The schedule that the members share, as a factor of each one's own learning rate: all of cnnlab's are one."""

    def __init__(self, plan: Plan, steps: int):
        self.schedule = None
        self.optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        if plan.classifier.make_scheduler is not None:
            total = steps * (plan.trainer.max_epochs or 1)
            self.schedule = plan.classifier.make_scheduler(self.optimizer, total).scheduler
            self.optimizer.step()  # torch warns of a schedule that moves on before its optimizer

    @property
    def now(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def step(self) -> None:
        if self.schedule is not None:
            self.schedule.step()


def generator(member: Member, device: torch.device) -> torch.Generator:
    """Return the random numbers of a member's dropout: on a CPU those that it would go on with by itself."""
    made = torch.Generator(device)
    if device.type == "cpu":
        made.set_state(member.numbers)
        return made
    return made.manual_seed(member.plan.settings.seed)
