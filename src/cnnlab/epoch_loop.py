"""Lightning's loop over the batches of an epoch, without what is nothing to most of them.

Lightning asks some sixty questions a step: of hooks, of accumulation, of what may be logged or validated now. Together
that is as long as a small network computes. Where the answers are known for a whole epoch, they are asked for once.
"""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning.loops.fetchers import _DataFetcher, _PrefetchDataFetcher
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor

from cnnlab.hooks import HOOKS, is_idle

LAST_HOOK = "on_train_batch_end"


class EpochLoop(_TrainingEpochLoop):
    """Takes the steps between the first and the last of an epoch itself, where nobody but the optimizer wants to know.

    Weights, counters, checkpoints and what resumes from them are as Lightning's own loop has them.
    """

    def on_run_start(self, data_fetcher: _DataFetcher) -> None:
        super().on_run_start(data_fetcher)
        self.is_plain = is_plain(self.trainer) and type(data_fetcher) is _PrefetchDataFetcher
        self.watching = [callback for callback in callbacks_of(self.trainer) if not is_idle(callback, LAST_HOOK)]

    def advance(self, data_fetcher: _DataFetcher) -> None:
        """Take one step."""
        trainer, progress = self.trainer, self.batch_progress
        # The first one resets what the epoch before has left, the last one ends the epoch.
        self.is_between = (
            self.is_plain
            and not self.restarting
            and 1 <= progress.current.ready < trainer.num_training_batches - 1
            and not trainer.should_stop
            and not trainer.received_sigterm
        )
        if not self.is_between:
            super().advance(data_fetcher)
            return
        module, precision = trainer.lightning_module, trainer.precision_plugin
        index = progress.current.ready
        batch = trainer.strategy.batch_to_device(next(data_fetcher)[0], dataloader_idx=0)
        progress.is_last_batch = data_fetcher.done
        progress.increment_ready()
        progress.increment_started()
        counted, optimizer = self.automatic_optimization.optim_progress.optimizer, trainer.optimizers[0]

        def compute() -> Tensor:
            with precision.train_step_context():
                loss = module.training_step(batch, index)
            assert isinstance(loss, Tensor)
            counted.zero_grad.increment_ready()
            counted.zero_grad.increment_started()
            module.optimizer_zero_grad(trainer.current_epoch, index, optimizer)
            counted.zero_grad.increment_completed()
            loss.backward()
            return loss

        counted.step.increment_ready()
        optimizer.step(compute)  # type: ignore[arg-type]
        counted.step.increment_completed()
        progress.increment_processed()
        if trainer.lr_scheduler_configs:
            self.update_lr_schedulers("step", update_plateau_schedulers=False)
        for callback in self.watching:
            callback.on_train_batch_end(trainer, module, {}, batch, index)
        progress.increment_completed()

    def on_advance_end(self, data_fetcher: _DataFetcher) -> None:
        """Validate and stop where it is time for that, which it never is between the first and the last batch."""
        if self.is_between and not self.trainer.received_sigterm:
            self._batches_that_stepped += 1
        else:
            super().on_advance_end(data_fetcher)


def is_plain(trainer: pl.Trainer) -> bool:
    """Return whether a step is nothing but forward, backward and the optimizer, on one device."""
    module, precision = trainer.lightning_module, trainer.precision_plugin
    hooked: list[pl.Callback | pl.LightningModule] = [module, *callbacks_of(trainer)]
    return (
        type(trainer.strategy) is SingleDeviceStrategy
        and type(precision) in (Precision, MixedPrecision)
        and getattr(precision, "scaler", None) is None
        and module.automatic_optimization
        and len(trainer.optimizers) == 1
        and trainer.accumulate_grad_batches == 1
        and not trainer.gradient_clip_val
        and not trainer.log_every_n_steps  # type: ignore[attr-defined]
        and trainer._val_check_time_interval is None  # type: ignore[attr-defined]
        and trainer.val_check_batch == trainer.num_training_batches
        and isinstance(trainer.num_training_batches, int)
        and not trainer._detect_anomaly
        and all(config.interval != "step" or not config.reduce_on_plateau for config in trainer.lr_scheduler_configs)
        and all(is_idle(one, name) or only_looks(one, name) for one in hooked for name in HOOKS)
    )


def callbacks_of(trainer: pl.Trainer) -> list[pl.Callback]:
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return callbacks


def only_looks(hooked: pl.Callback | pl.LightningModule, name: str) -> bool:
    """Return whether a hook after each batch neither logs nor needs what a step returns, as its callback says."""
    return name == LAST_HOOK and getattr(hooked, "only_looks", False)
