"""Every key in the broker, made by one constructor each.

The ``arq:`` keys mean what they mean in arq 0.28 (``arq/constants.py``). The ``twolane:`` keys are
ours; arq's tools never look at them.
"""

from __future__ import annotations

from typing import Final, Literal

Lane = Literal["io", "cpu"]
LANES: Final[tuple[Lane, ...]] = ("io", "cpu")

IO_QUEUE: Final = "arq:queue"  # arq's default queue, so that arq's clients reach the IO lane as is
CPU_QUEUE: Final = "arq:queue:cpu"
QUEUES: Final[dict[Lane, str]] = {"io": IO_QUEUE, "cpu": CPU_QUEUE}

JOB_PREFIX: Final = "arq:job:"
RESULT_PREFIX: Final = "arq:result:"
IN_PROGRESS_PREFIX: Final = "arq:in-progress:"
RETRY_PREFIX: Final = "arq:retry:"
ABORTS: Final = "arq:abort"  # sorted set: id -> time of the request, in ms

RUNS: Final = "twolane:runs"  # sorted set: run name -> creation time, in ms
RUN_PREFIX: Final = "twolane:run:"
DEAD: Final = "twolane:dead"  # sorted set: id -> time of death, in ms
DEAD_PREFIX: Final = "twolane:dead:"
WORKERS: Final = "twolane:workers"  # sorted set: worker -> time until which its word holds, in ms
WORKER_PREFIX: Final = "twolane:worker:"


def id_of(raw: bytes) -> str:
    """An id as the broker has it. One that is not UTF-8, from another client, stays tellable."""
    return raw.decode("utf-8", "surrogateescape")


def raw_id(job_id: str) -> bytes:
    """The bytes that :func:`id_of` was given."""
    return job_id.encode("utf-8", "surrogateescape")


def shown_id(job_id: str) -> str:
    """An id for records and people: what is not text in it, escaped."""
    if job_id.isascii():
        return job_id
    return job_id.encode("utf-8", "backslashreplace").decode()


def job(job_id: str) -> str:
    """String: the payload."""
    return JOB_PREFIX + job_id


def result(job_id: str) -> str:
    """String: the recorded result."""
    return RESULT_PREFIX + job_id


def in_progress(job_id: str) -> str:
    """String with a lease for its time to live: the fence of the attempt that holds the job."""
    return IN_PROGRESS_PREFIX + job_id


def retry(job_id: str) -> str:
    """Integer: how often the job has been claimed."""
    return RETRY_PREFIX + job_id


def wake(queue: str) -> str:
    """Channel on which producers wake the workers of a queue."""
    return f"twolane:wake:{queue}"


def counters(queue: str) -> str:
    """Hash of a queue's totals since the server's data began: enqueued, done, failed, …"""
    return f"twolane:counters:{queue}"


def run(name: str) -> str:
    """Hash: what a run is and how far it has come."""
    return RUN_PREFIX + name


def run_outcomes(name: str) -> str:
    """Stream: the outcomes of the jobs that have settled, up to 32 an entry, in numbered fields."""
    return f"{RUN_PREFIX}{name}:outcomes"


def dead(job_id: str) -> str:
    """Hash: a dead letter, its payload kept."""
    return DEAD_PREFIX + job_id


def lane_workers(lane: str) -> str:
    """Sorted set: worker of that lane -> time until which its word holds, in ms."""
    return f"{WORKERS}:{lane}"


def worker(worker_id: str) -> str:
    """String with a time to live: a worker's latest heartbeat."""
    return WORKER_PREFIX + worker_id
