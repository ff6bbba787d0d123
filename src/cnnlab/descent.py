"""How a network descends: its optimizer and its schedule, from the settings."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from cnnlab.classifier import MakeOptimizer, MakeScheduler, Schedule
from cnnlab.errors import UsageError
from cnnlab.optimizers import KERAS_PLACEMENT, OPTIMIZERS, cosine, onecycle
from cnnlab.own import asked, called, own
from cnnlab.settings import training
from cnnlab.settings.base import Own


def optimizer_maker(settings: training.Optimizer) -> MakeOptimizer:
    """Return what makes the optimizer of the parameters it is given."""
    if isinstance(settings, Own):
        given = own("optimizer", settings)

        def make_own(parameters: Iterable[nn.Parameter]) -> Optimizer:
            optimizer = called("optimizer", given, parameters)
            if not isinstance(optimizer, Optimizer):
                raise UsageError(f"optimizer._target_={settings.target!r} is no optimizer of torch's")
            return optimizer

        return make_own

    def make(parameters: Iterable[nn.Parameter]) -> Optimizer:
        options = settings.options()
        kinds = KERAS_PLACEMENT if options.pop("epsilon_placement", None) == "keras" else OPTIMIZERS
        return kinds[settings.name](parameters, **options)  # type: ignore[arg-type]

    return make


def scheduler_maker(settings: training.Scheduler, monitor: str | None = None) -> MakeScheduler | None:
    """Return what makes the schedule of an optimizer and a number of steps; None for a constant rate.

    A schedule of the user's own that asks for `total_steps` gets them and is stepped after every step; any other one,
    as torch's are, is stepped after every epoch, and told `monitor` if it waits for a metric to stop improving.
    """
    if isinstance(settings, training.Constant):
        return None
    given = own("scheduler", settings) if isinstance(settings, Own) else None

    def make(optimizer: Optimizer, steps: int) -> Schedule:
        if isinstance(settings, training.Cosine):
            options = {"warmup_fraction": settings.warmup_fraction, "final_factor": settings.final_factor}
            return Schedule(cosine(optimizer, steps, **options))
        if isinstance(settings, training.OneCycle):
            return Schedule(onecycle(optimizer, steps, warmup_fraction=settings.warmup_fraction))
        assert given is not None
        asks = asked(given, total_steps=steps)
        scheduler = called("scheduler", given, optimizer, **asks)
        if not isinstance(scheduler, LRScheduler):
            raise UsageError(f"scheduler._target_={settings.target!r} is no scheduler of torch's")
        plateau = isinstance(scheduler, ReduceLROnPlateau)
        return Schedule(scheduler, "step" if asks else "epoch", monitor if plateau else None)

    return make
