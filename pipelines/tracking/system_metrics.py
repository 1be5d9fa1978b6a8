"""CPU, memory, disk, network and GPU of every node while a command works, for its MLflow run.

MLflow's own recorder writes to the tracking store from the node that it watches, which a worker may not reach; here the
driver asks every node and keeps the answers in the command's folder, from which they are logged with everything else.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray
from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from grmp_core.errors import InputError
from grmp_core.storage import Location
from pipelines.configuration.schema import Config
from pipelines.runtime.console import one_line, say

FILE = "system_metrics.json"
_SAMPLES_OF_A_WRITE = 10
_PATIENCE_S = 10
Sample = dict[str, Any]
"""node, time_ms, and metrics: value by MLflow's name."""


@contextmanager
def system_metrics(config: Config, folder: Location, of: str) -> Iterator[None]:
    """Sample every node each `tracking.system_metrics_s` seconds, from then on; a shorter run has no sample and starts
    nothing. Enter it inside of `ray_session`; without Ray this machine is the only node.

    Args:
        folder: the command's; samples of an interrupted run stay there.
        of: identity of the run. Samples of another one are dropped.
    """
    seconds = config.tracking.system_metrics_s
    if not seconds:
        yield
        return
    recorder = _Recorder(folder / FILE, of)
    ended = threading.Event()
    thread = threading.Thread(target=recorder.run, args=(ended, seconds), daemon=True, name="grmp-system-metrics")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def read_samples(folder: Location) -> list[Sample]:
    """In the order of time; none where none were taken."""
    file = folder / FILE
    return file.read_json()["samples"] if file.exists() else []


class NodeSampler:
    """Runs on the node that it samples. GPUs take part where NVIDIA's `nvidia-ml-py` is installed and finds some."""

    def __init__(self) -> None:
        self._monitors: list[BaseMetricsMonitor] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
        with suppress(ImportError, RuntimeError):  # no such package, no GPU
            self._monitors.append(GPUMonitor())
        self.sample()  # the use of a CPU is that since the last look

    def sample(self) -> dict[str, float]:
        metrics: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.clear_metrics()
            monitor.collect_metrics()
            metrics |= {name: float(value) for name, value in monitor.aggregate_metrics().items()}
        return metrics


class _Recorder:
    def __init__(self, file: Location, of: str) -> None:
        self._file, self._of = file, of
        kept = file.read_json() if file.exists() else {}
        self.samples: list[Sample] = kept["samples"] if kept.get("of") == of else []
        self._written = len(self.samples)
        self._samplers: dict[str, Any] = {}
        """By node: of this process, or an actor there."""
        self._unanswered: Counter[str] = Counter(kept.get("unanswered", {}) if self.samples else {})
        """Samples that a node did not give."""

    def run(self, ended: threading.Event, seconds: float) -> None:
        try:
            while not ended.wait(seconds):
                self._take()
                if len(self.samples) - self._written >= _SAMPLES_OF_A_WRITE * len(self._samplers):
                    self._write()
            if len(self.samples) > self._written or self._unanswered:
                self._write()
            for node, count in self._unanswered.items():
                say(f"tracking: {count} samples of system metrics are missing, {node} did not answer")
        except (InputError, OSError) as error:  # the command itself goes on
            say(f"tracking: no more system metrics, {self._file.uri} cannot be written: {one_line(error)}")

    def _take(self) -> None:
        now = int(1000 * time.time())
        for node, metrics in (self._of_cluster() if ray.is_initialized() else self._of_this_machine()).items():
            self.samples.append({"node": node, "time_ms": now, "metrics": metrics})

    def _of_this_machine(self) -> dict[str, dict[str, float]]:
        name = socket.gethostname()
        if name not in self._samplers:
            self._samplers[name] = NodeSampler()
        return {name: self._samplers[name].sample()}

    def _of_cluster(self) -> dict[str, dict[str, float]]:
        """Of the nodes that answer. A node that came later takes part from then on, one that is gone no more."""
        for node in ray.nodes():
            name = f"{node['NodeManagerAddress']}-{node['NodeID'][:6]}"  # tests have several nodes at one address
            if node["Alive"] and name not in self._samplers:
                there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                actor = ray.remote(num_cpus=0)(NodeSampler)
                self._samplers[name] = actor.options(scheduling_strategy=there).remote()
            elif not node["Alive"]:
                self._samplers.pop(name, None)
        asked = {name: sampler.sample.remote() for name, sampler in self._samplers.items()}
        answered = {}
        for name, answer in asked.items():
            try:
                answered[name] = ray.get(answer, timeout=_PATIENCE_S)
            except RayError:  # the node is gone, or too busy for now
                self._unanswered[name] += 1
        return answered

    def _write(self) -> None:
        self._file.write_json({"of": self._of, "samples": self.samples, "unanswered": dict(self._unanswered)})
        self._written = len(self.samples)
