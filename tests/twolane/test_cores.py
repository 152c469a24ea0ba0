"""The cores that may be used: the affinity mask, or the cgroup's quota if that is less."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from twolane import cores


def write(root: Path, files: dict[str, str]) -> tuple[Path, Path]:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root / "proc", root / "cgroup"


V2 = {"proc/self/cgroup": "0::/a/b\n"}
V1 = {"proc/self/cgroup": "5:devices:/\n3:cpu,cpuacct:/a\n"}
QUOTAS = {
    "no files at all": ({}, None),
    "v2, no limit": (V2 | {"cgroup/a/b/cpu.max": "max 100000\n"}, None),
    "v2, its own": (V2 | {"cgroup/a/b/cpu.max": "250000 100000\n"}, 2.5),
    "v2, a tighter one above": (
        V2 | {"cgroup/a/b/cpu.max": "300000 100000\n", "cgroup/a/cpu.max": "150000 100000\n"},
        1.5,
    ),
    "v2 in a container that shows the host's path": (
        V2 | {"cgroup/cpu.max": "200000 100000\n"},
        2.0,
    ),
    "v2, a path outside the namespace": (
        {"proc/self/cgroup": "0::/../../x\n", "cgroup/cpu.max": "400000 100000\n"},
        4.0,
    ),
    "v2 beside v1": (V2 | {"cgroup/unified/a/b/cpu.max": "50000 100000\n"}, 0.5),
    "v1, no limit": (
        V1 | {"cgroup/cpu/a/cpu.cfs_quota_us": "-1\n", "cgroup/cpu/a/cpu.cfs_period_us": "100000"},
        None,
    ),
    "v1, its own": (
        V1
        | {
            "cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "300000\n",
            "cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
        },
        3.0,
    ),
    "nonsense": (V2 | {"cgroup/a/b/cpu.max": "many\n"}, None),
    "a period of nothing": (V2 | {"cgroup/a/b/cpu.max": "1000 0\n"}, None),
}


@pytest.mark.parametrize(("files", "expected"), QUOTAS.values(), ids=QUOTAS)
def test_the_tightest_quota_counts(
    files: dict[str, str], expected: float | None, tmp_path: Path
) -> None:
    assert cores.quota_cores(*write(tmp_path, files)) == expected


CORES = {
    "no quota": ("max 100000", 4),
    "rounded down": ("290000 100000", 2),
    "never 0": ("20000 100000", 1),
    "more than the mask allows": ("900000 100000", 4),
}


@pytest.mark.parametrize(("quota", "expected"), CORES.values(), ids=CORES)
def test_the_smaller_of_mask_and_quota_counts(
    quota: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    roots = write(tmp_path, V2 | {"cgroup/a/b/cpu.max": quota})

    assert cores.usable_cores(*roots) == expected


def test_without_a_mask_the_machine_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)

    assert cores.usable_cores(*write(tmp_path, {})) == 6


def test_this_machine_has_some() -> None:
    assert cores.usable_cores() >= 1
