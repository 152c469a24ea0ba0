"""How busy the machine, the broker and other processes are between two looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Final, NamedTuple

import msgspec
import psutil
from redis.asyncio import Redis

from producer.models.usage import of_own, of_trees
from twolane.cores import usable_cores

OURSELVES: Final = "producer"
WORKERS: Final = "workers"


class Busy(msgspec.Struct):
    """Cores in use between two looks. ``machine`` is of all of the machine's ``cores``, of which
    this process may use ``usable_cores``.

    ``broker`` is Valkey's own account of its CPU time; it runs commands in one thread, so 1 is all
    that it has for them. ``others`` are the processes that were named. ``is_whole`` says that they
    and the broker are all that took part, on this machine.
    """

    seconds: float
    cores: int
    usable_cores: int
    machine: float
    broker: float
    others: dict[str, float]
    is_whole: bool = False


class _Look(NamedTuple):
    at: float
    machine: float
    broker: float
    others: dict[str, float]


class LoadMeter:
    """Looks at CPU times; ``others`` are processes by what they are called."""

    def __init__(self, client: Redis, others: Mapping[str, Sequence[psutil.Process]]) -> None:
        self._client = client
        self._others = others
        self._before: _Look | None = None

    async def begin(self) -> None:
        self._before = await self._look()

    async def end(self) -> Busy:
        """How busy each was since `begin`."""
        assert self._before is not None
        before, now = self._before, await self._look()
        seconds = max(now.at - before.at, 1e-9)
        return Busy(
            seconds=seconds,
            cores=psutil.cpu_count() or 1,
            usable_cores=usable_cores(),
            machine=(now.machine - before.machine) / seconds,
            broker=(now.broker - before.broker) / seconds,
            others={
                name: (spent - before.others[name]) / seconds for name, spent in now.others.items()
            },
            is_whole=WORKERS in now.others,
        )

    async def _look(self) -> _Look:
        found = await self._client.info("cpu")
        times = psutil.cpu_times()
        # What waits for a disk, or what the hypervisor took, nobody here has computed.
        idle = times.idle + getattr(times, "iowait", 0.0) + getattr(times, "steal", 0.0)
        # guest times are counted in user and nice already (proc(5))
        counted_twice = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        return _Look(
            monotonic(),
            sum(times) - counted_twice - idle,
            float(found["used_cpu_user"]) + float(found["used_cpu_sys"]),
            {
                # Our own children are the others that are watched, by names of their own.
                name: of_own(roots) if name == OURSELVES else of_trees(roots)
                for name, roots in self._others.items()
            },
        )
