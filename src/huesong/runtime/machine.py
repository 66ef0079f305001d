"""What this process may use of the machine: a container's share, not the machine's whole."""

from __future__ import annotations

import math
import os
from pathlib import Path


def cores(system: Path = Path("/")) -> int:
    """Processors that this process may use: those it may run on, or fewer where its cgroup has a quota; at least 1.

    Args:
        system: the root of the file system, with proc/self/cgroup and sys/fs/cgroup (versions 1 and 2).
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(system)
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota - 1e-9)))


def _quota(system: Path) -> float | None:
    """The smallest quota in processors of this process's cgroup and those around it; None without one."""
    base = system / "sys/fs/cgroup"
    try:
        lines = (system / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = []
    for line in lines:
        _, controllers, own = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = base / "cpu" if controllers else base
        # In a container the path may be the host's, and the cgroup itself stands at the top.
        for folder in {top / own.strip("/"), *(top / own.strip("/")).parents, top}:
            if folder == top or top in folder.parents:
                found.append(_limit(folder))
    return min((limit for limit in found if limit is not None), default=None)


def _limit(folder: Path) -> float | None:
    """The quota of one cgroup, in processors."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="utf-8").strip()
            period = (folder / "cpu.cfs_period_us").read_text(encoding="utf-8").strip()
        return int(quota) / int(period) if quota not in ("max", "-1") and int(period) > 0 else None
    except (OSError, ValueError):
        return None
