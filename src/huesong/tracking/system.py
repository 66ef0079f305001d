"""Processor, memory, disk, network and GPU while a stage runs: MLflow's own measures, and those of the container.

MLflow's are the machine's. Where a control group limits the process (a container, a systemd unit), processor and memory are
counted of that group, against its limits.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huesong.runtime.workers import cgroups, processor_quota

SAMPLING_S = 2.0
FILES = {
    "limit": ("memory.max", "memory.limit_in_bytes"), "used": ("memory.current", "memory.usage_in_bytes"),
    "cache": ("inactive_file", "total_inactive_file"),
}  # fmt: skip
"""Names in version 2 and in version 1 of control groups; `cache` is a line of memory.stat."""


@dataclass
class Container:
    """Processor and memory of the control group of this process; a monitor as MLflow takes one.

    system: the root of the file system, with proc/self/cgroup and sys/fs/cgroup.
    """

    system: Path = Path("/")
    _metrics: dict[str, list[float]] = field(default_factory=dict)
    _before: tuple[float, float] | None = None

    def collect_metrics(self) -> None:
        """Take a sample."""
        if (found := memory(self.system)) is not None:
            used, limit = found
            self._add("system_memory_usage_megabytes", used / 1e6)
            self._add("system_memory_usage_percentage", used / limit * 100)
        quota, used_s, now = processor_quota(self.system), processor_seconds(self.system), time.monotonic()
        if quota is None or used_s is None:
            return
        if self._before is not None and now > self._before[1]:
            self._add("cpu_utilization_percentage", (used_s - self._before[0]) / (now - self._before[1]) / quota * 100)
        self._before = (used_s, now)

    def _add(self, name: str, value: float) -> None:
        self._metrics.setdefault(name, []).append(value)

    def aggregate_metrics(self) -> dict[str, float]:
        """Means since `clear_metrics`."""
        return {name: round(sum(values) / len(values), 1) for name, values in self._metrics.items()}

    def clear_metrics(self) -> None:
        """Begin anew."""
        self._metrics.clear()


def memory(system: Path) -> tuple[float, float] | None:
    """Bytes in use, without the cache that can be given up, and the smallest limit of the group and those around it.

    None without a limit below the machine's memory.
    """
    import psutil

    found = []
    for folder in cgroups(system, "memory"):
        limit, used = (_number(folder, *FILES[name]) for name in ("limit", "used"))
        if limit is not None and used is not None and limit < psutil.virtual_memory().total:
            found.append((limit, max(0.0, used - _cache(folder))))
    return min(((used, limit) for limit, used in found), key=lambda pair: pair[1], default=None)


def _number(folder: Path, *names: str) -> float | None:
    """The number in the first file of these names; None without one, as of `max`."""
    for name in names:
        with contextlib.suppress(OSError, ValueError):
            return float((folder / name).read_text(encoding="utf-8"))
    return None


def _cache(folder: Path) -> float:
    """File pages that were not used of late."""
    with contextlib.suppress(OSError, ValueError):
        lines = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="utf-8").splitlines())
        return float(next(lines[name] for name in reversed(FILES["cache"]) if name in lines))
    return 0.0


def processor_seconds(system: Path) -> float | None:
    """Seconds of processors that the group has used; None where nobody counts them."""
    for folder in cgroups(system, "cpu"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            lines = dict(line.split() for line in (folder / "cpu.stat").read_text(encoding="utf-8").splitlines())
            return int(lines["usage_usec"]) / 1e6
    for folder in cgroups(system, "cpuacct"):
        with contextlib.suppress(OSError, ValueError):
            return int((folder / "cpuacct.usage").read_text(encoding="utf-8")) / 1e9
    return None


class Monitor:
    """A thread that measures every few seconds, and hands over what it found."""

    def __init__(self, publish: Callable[[Mapping[str, float], int], None], system: Path = Path("/")) -> None:
        """`publish` is given names with values, and the number of the sample."""
        from mlflow.environment_variables import MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL

        self._publish, self._ended = publish, threading.Event()
        self._every = float(MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.get() or SAMPLING_S)
        self._monitors = monitors(system)
        self._thread = threading.Thread(target=self._measure, name="huesong-system", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Measure no more."""
        self._ended.set()
        self._thread.join()

    def _measure(self) -> None:
        step = 0
        while True:
            for one in self._monitors:
                one.collect_metrics()
            if self._ended.wait(self._every):
                return
            values: dict[str, float] = {}
            for one in self._monitors:
                values |= one.aggregate_metrics()  # the container's come last, in place of the machine's
                one.clear_metrics()
            self._publish({f"system/{name}": float(value) for name, value in values.items()}, step)
            step += 1


def monitors(system: Path = Path("/")) -> list[Any]:
    """What measures here: MLflow's monitors, of an NVIDIA GPU where nvidia-ml-py finds one, and the container's."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    found: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    with contextlib.suppress(ImportError, RuntimeError):  # no nvidia-ml-py, no GPU
        found.append(GPUMonitor())
    return [*found, Container(system)]
