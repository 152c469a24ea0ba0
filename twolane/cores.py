"""How many cores this process may use: its affinity mask, or its cgroup's quota if less."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


def usable_cores(proc: Path = PROC, cgroups: Path = CGROUPS) -> int:
    """The cores that computing processes can keep busy; at least 1.

    A quota is rounded down: with 2.5 cores a third process would only take turns with the others.

    Args:
        proc: where procfs is mounted.
        cgroups: where the cgroup hierarchies are mounted.
    """
    quota = quota_cores(proc, cgroups)
    cores = _affinity_cores()
    return cores if quota is None else min(cores, max(1, int(quota)))


def quota_cores(proc: Path = PROC, cgroups: Path = CGROUPS) -> float | None:
    """The tightest CPU quota of this process's cgroup and those above it; ``None``: no limit."""
    return min(_quotas(proc, cgroups), default=None)


def _affinity_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(proc: Path, cgroups: Path) -> Iterator[float]:
    for line in _text(proc / "self" / "cgroup").splitlines():
        # hierarchy:controllers:path; version 2 is hierarchy 0, with no controllers.
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0" and not controllers:
            for mount in (cgroups, cgroups / "unified"):
                yield from filter(None, map(_quota_v2, _upwards(mount, path)))
        elif "cpu" in controllers.split(","):
            for mount in {cgroups / "cpu", cgroups / controllers}:
                yield from filter(None, map(_quota_v1, _upwards(mount, path)))


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """The cgroup's directory, each one above it, and the mount point.

    In a container the path may be the host's, which does not exist below the container's mount:
    there the mount point itself is the cgroup.
    """
    parts = PurePosixPath(path).parts[1:]
    if ".." not in parts:
        for depth in range(len(parts), 0, -1):
            yield mount.joinpath(*parts[:depth])
    yield mount


def _quota_v2(directory: Path) -> float | None:
    quota, _, period = _text(directory / "cpu.max").strip().partition(" ")
    return _ratio(quota, period)


def _quota_v1(directory: Path) -> float | None:
    quota = _text(directory / "cpu.cfs_quota_us").strip()
    return _ratio(quota, _text(directory / "cpu.cfs_period_us").strip())


def _ratio(quota: str, period: str) -> float | None:
    """Cores; ``None`` where there is no limit: ``max`` in version 2, -1 in version 1."""
    if not (quota.isdecimal() and period.isdecimal() and int(period)):
        return None
    return int(quota) / int(period) or None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
