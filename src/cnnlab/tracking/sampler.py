"""Samples of processor, memory, disk, network and GPU beside a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor


class Sampler(SystemMetricsMonitor):
    """MLflow's samples of processor, memory, disk, network and GPU, without its questions to the server."""

    def __init__(self, run_id: str, interval: float, first_step: int, keep: Callable[[int, Mapping[str, float]], None]):
        super().__init__(run_id, sampling_interval=interval)
        self._logging_step = first_step
        self.keep = keep

    def monitor(self) -> None:
        while True:
            self.collect_metrics()
            if self._shutdown_event.wait(self.sampling_interval):
                return
            try:
                self.keep(self._logging_step, {f"{self._metrics_prefix}{key}": value for key, value in self.taken()})
            except Exception:  # samples are no reason to end a training, which meets the same soon enough
                return
            self._logging_step += 1

    def finish(self) -> None:
        self._shutdown_event.set()
        if self._process is not None:
            self._process.join()

    def taken(self) -> Sequence[tuple[str, float]]:
        """Return the samples since the last time, and forget them."""
        samples = list(self.aggregate_metrics().items())
        for monitor in self.monitors:
            monitor.clear_metrics()
        return samples
