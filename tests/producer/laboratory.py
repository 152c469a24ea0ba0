"""What the laboratory measures, made by hand."""

from __future__ import annotations

import random
from collections.abc import Sequence

from producer.comparison import Quantiles
from producer.environment import Environment
from producer.load_meter import Busy
from producer.models.rounds import Compared, side_by_side
from producer.models.work import ASYNCIO, ONE, PROCESSES, THREADS, WORKERS, Measurement, Work
from producer.open_load import Loaded, Second
from producer.sweep import Point

MACHINE = Environment(
    at="2026-11-22 12:00:00 +0000", cpu="a CPU", cores=4, usable_cores=4, quota=None,
    memory_bytes=8 * 1024**3, load=0.1, system="Linux", python="CPython 3.13.0",
    versions={"twolane": "0.1.0"}, broker="Valkey 9.1.2",
)  # fmt: skip


def work(job: str = "count_primes", lane: str = "cpu", cores: int = 4, count: int = 32) -> Work:
    return Work(
        job=job, lane="io" if lane == "io" else "cpu", modules=("twolane.jobs",), args=[],
        kwargs={}, count=count, at_once=100, cores=cores, is_coroutine=lane == "io",
    )  # fmt: skip


def measured(wall: float, cores: float = 1.0, block: float | None = None) -> Measurement:
    return Measurement(wall=wall, cpu_seconds=wall * cores, longest_block=block)


def compared(
    of: Work, walls: dict[str, Sequence[float]], cores: float = 1.0, block: float | None = None
) -> Compared:
    """The table of walls by way, one a round; ``cores`` is what one at a time keeps busy."""
    rounds = {
        model: [measured(wall, cores, block if model == ASYNCIO else None) for wall in found]
        for model, found in walls.items()
    }
    missing = {"free-threaded threads": "no such build", "sub-interpreters": "too old"}
    return side_by_side(of, dict(rounds), missing, len(next(iter(walls.values()))))


def primes_on(cores: int) -> Compared:
    """Primes on a machine of so many cores."""
    near = (1.0, 1.02, 0.99, 1.01, 0.98)
    shared = [one / min(cores, 4) * 1.05 for one in near]
    return compared(
        work(cores=cores),
        {
            ONE: near,
            THREADS: [one * 1.01 for one in reversed(near)],
            ASYNCIO: [one * 1.001 for one in reversed(near)],
            PROCESSES: shared if cores > 1 else [one * 1.02 for one in reversed(near)],
            WORKERS: shared if cores > 1 else [one * 1.03 for one in reversed(near)],
        },
        block=1.0,
    )


def fetches() -> Compared:
    near = (5.0, 5.1, 5.05, 4.95, 5.02)
    return compared(
        work("fetch", "io", count=100),
        {
            ONE: near,
            THREADS: [one / 50 for one in near],
            ASYNCIO: [one / 80 for one in near],
            PROCESSES: [one / 4 for one in near],
            WORKERS: [one / 60 for one in near],
        },
        cores=0.02,
        block=0.01,
    )


def point(
    workers: int, throughput: float, round_: int = 0, *, machine: float | None = None,
    broker: float = 0.05, target: float | None = None, busy: float = 1.0, backlog: int = 50,
    failed: int = 0, cores: int = 4,
) -> Point:  # fmt: skip
    others = {"workers": min(workers, cores) * 0.97, "producer": 0.05}
    if target is not None:
        others["target"] = target
    return Point(
        workers=workers,
        slots=workers,
        round_=round_,
        throughput=throughput,
        jobs=round(throughput * 4),
        failed=failed,
        wait=Quantiles(1.0, 1.4, 1.5),
        run=Quantiles(0.04, 0.05, 0.06),
        busy_slots=workers * busy,
        busy=Busy(
            seconds=4.0, cores=cores, usable_cores=cores,
            machine=min(cores, workers) * 0.99 if machine is None else machine,
            broker=broker, others=others, is_whole=True,
        ),
        lowest_backlog=backlog,
        per_second=[round(throughput)] * 4,
    )  # fmt: skip


COUNTS = (1, 2, 3, 4, 6, 8)


def points_on(cores: int, rounds: int = 3, noise: float = 0.005) -> list[Point]:
    """A CPU job on so many cores: in proportion up to there, then flat."""
    draw = random.Random(7)
    return [
        point(count, 26.0 * min(count, cores) * draw.uniform(1 - noise, 1 + noise), number)
        for number in range(rounds)
        for count in COUNTS
    ]


def loaded() -> Loaded:
    return Loaded(
        rate=150.0, arrivals="poisson", seconds=9.0, sent_rate=151.0, completed_rate=150.5,
        jobs=1359, failed=0, unfinished=0, workers=1, slots=10, wait_mean=0.016,
        wait=Quantiles(0.009, 0.055, 0.065), latency=Quantiles(0.068, 0.13, 0.17),
        run=Quantiles(0.051, 0.11, 0.143), run_mean=0.057, scv=0.25,
        late=Quantiles(0.001, 0.002, 0.004),
        busy=Busy(10.0, 4, 4, 0.4, 0.05, {"workers": 0.2, "producer": 0.1}),
        per_second=[Second(150 + n % 3, 149 + n % 4, 0.05, 0.07, 0.13) for n in range(10)],
    )  # fmt: skip


__all__ = [
    "COUNTS", "MACHINE", "compared", "fetches", "loaded", "measured", "point", "points_on",
    "primes_on", "work",
]  # fmt: skip
