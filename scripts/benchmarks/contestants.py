"""Who takes part, and how each is set up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from benchmarks.plan import Options

OURS: Final = "twolane"
DROP_IN: Final = "twolane-arq"  # ours too: an arq application under `twolane arq`


@dataclass(frozen=True)
class Contestant:
    """``module`` is one of `benchmarks.peers`, ``environment`` None for this project's own.

    ``pace`` is a rough number of no-op jobs a second: it decides how many jobs a run has, so that
    each takes about as long, and nothing else. ``one_at_a_time``: a worker has a single slot.
    ``queueless``: a pool that keeps nothing outside of its process.
    """

    name: str
    title: str
    module: str
    environment: str | None
    pace: int
    options: Options = field(default_factory=dict)
    one_at_a_time: bool = False
    prefork: bool = False
    queueless: bool = False


def _queue(name: str, title: str, environment: str, pace: int, **options: str | int) -> Contestant:
    return Contestant(name, title, environment, environment, pace, dict(options))


ALL: Final = {
    one.name: one
    for one in (
        Contestant(OURS, "twolane", "twolane", None, 15_000),
        Contestant(DROP_IN, "twolane arq", "twolane_arq", None, 10_000),
        _queue("arq", "arq, defaults", "arq", 300),
        _queue("arq-tuned", "arq, tuned", "arq", 1_500, tuned=1),
        _queue("saq", "SAQ", "saq", 1_500),
        _queue("streaq", "streaq", "streaq", 1_500),
        _queue("taskiq", "taskiq (list)", "taskiq", 2_000),
        _queue("taskiq-stream", "taskiq (stream)", "taskiq", 2_000, stream=1),
        _queue("celery-threads", "Celery, threads", "celery", 1_500, pool="threads"),
        Contestant(
            "celery-prefork", "Celery, prefork", "celery", "celery", 2_000,
            {"pool": "prefork"}, prefork=True,
        ),
        _queue("dramatiq", "Dramatiq", "dramatiq", 1_500),
        Contestant("rq", "RQ", "rq", "rq", 800, one_at_a_time=True),
        _queue("huey", "Huey", "huey", 3_000),
        Contestant("raw", "raw sockets", "raw", None, 5_000, one_at_a_time=True),
        Contestant("bare", "bare cores", "bare", None, 40_000, queueless=True),
        Contestant("executor", "ProcessPoolExecutor", "executor", None, 5_000, queueless=True),
        Contestant("dask", "Dask LocalCluster", "dask", "dask", 1_000, queueless=True),
    )
}  # fmt: skip

RAW: Final = "raw"  # what the server and the machine take by themselves
QUEUES: Final = tuple(name for name, one in ALL.items() if not one.queueless and name != RAW)
ASYNC: Final = (OURS, DROP_IN, "arq-tuned", "saq", "streaq", "taskiq", "taskiq-stream")
POOLS: Final = (OURS, "bare", "executor", "celery-prefork", "taskiq", "dask")
