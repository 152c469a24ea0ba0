"""The Lua scripts: their texts, what each is given, and how much of it at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import resources
from typing import Any, Final, Literal, TypeVar

from twolane import keys
from twolane.channel import Command
from twolane.messages import (
    CALL_BYTES,
    Cancellation,
    Claim,
    ClaimedJob,
    NewJob,
    Request,
    Settlement,
)

# One script call for 500 jobs takes the server 2 ms, and fits a socket's buffer whole.
ENQUEUE_BATCH: Final = 500
SETTLE_BATCH: Final = 500
# Lua's unpack takes at most about 8,000 values; a claim needs two a job.
MAX_CLAIM: Final = 1_000
RUN_TTL_SECONDS: Final = 7 * 24 * 3600
CANCELLED_KEEP_MS: Final = 3_600_000

RunOrder = Literal["", "open", "seal", "both"]  # what an enqueueing does with its run besides
Arguments = tuple[Sequence[str], Sequence[Any]]  # keys and values
T = TypeVar("T")


def _read(name: str) -> str:
    return resources.files("twolane").joinpath("lua", f"{name}.lua").read_text("utf-8")


class Script:
    """A Lua script by its digest; sent whole where the server does not have it.

    ``preludes`` are files with functions that it uses.
    """

    def __init__(self, name: str, *preludes: str) -> None:
        self.name = name
        self.text = "".join(_read(one) for one in (*preludes, name))
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def by_digest(self, keys_: Sequence[str], args: Sequence[Any]) -> Command:
        return ("EVALSHA", self.sha, len(keys_), *keys_, *args)

    def in_full(self, keys_: Sequence[str], args: Sequence[Any]) -> Command:
        return ("EVAL", self.text, len(keys_), *keys_, *args)


ENQUEUE: Final = Script("enqueue")
CLAIM: Final = Script("claim", "set_many")
RENEW: Final = Script("renew")
ACKNOWLEDGE: Final = Script("acknowledge", "set_many")
RETRY: Final = Script("retry", "give_back")
RELEASE: Final = Script("release", "give_back")
CANCEL: Final = Script("cancel")
REVIVE: Final = Script("revive")


def enqueuing(
    queue: str,
    jobs: Iterable[NewJob],
    run: str,
    order: RunOrder = "",
    kind: str = "",
    call: str = "",
) -> Arguments:
    args: list[Any] = [run, RUN_TTL_SECONDS, keys.wake(queue), order, kind, call]
    for one in jobs:
        args += one
    other = keys.IO_QUEUE if queue == keys.CPU_QUEUE else keys.CPU_QUEUE
    return (queue, keys.counters(queue), keys.run(run) if run else queue, keys.RUNS, other), args


def claiming(queue: str, request: Request) -> Arguments:
    limit = min(request.limit, MAX_CLAIM)
    args = (request.fence, request.lease_ms, limit, request.workers, CALL_BYTES)
    return (queue, keys.ABORTS), args


def settling(queue: str, settled: Iterable[Settlement]) -> Arguments:
    args: list[Any] = [RUN_TTL_SECONDS]
    for s in settled:
        args += s
    return (queue, keys.counters(queue), keys.ABORTS, keys.DEAD), args


def retrying(queue: str, jobs: Iterable[tuple[str, bytes, int]]) -> Arguments:
    args = [keys.wake(queue), *(value for one in jobs for value in one)]
    return (queue, keys.counters(queue), keys.ABORTS), args


def releasing(queue: str, jobs: Iterable[tuple[str, bytes, int]]) -> Arguments:
    args = [keys.wake(queue), *(value for one in jobs for value in one)]
    return (queue, keys.counters(queue)), args


def cancelling(queue: str, jobs: Iterable[Cancellation]) -> Arguments:
    args: list[Any] = [RUN_TTL_SECONDS, keys.wake(queue)]
    for one in jobs:
        args += one.id, one.result, CANCELLED_KEEP_MS, one.run
    return (queue, keys.counters(queue), keys.ABORTS), args


def reviving(ids: Iterable[str]) -> Arguments:
    return (keys.DEAD,), (keys.wake(""), *ids)


def renewal(held: Iterable[tuple[str, bytes]], lease_ms: int) -> list[Any]:
    """The arguments of ``renew.lua``, for the renewal thread's own blocking client too."""
    return [lease_ms, *(value for one, fence in held for value in (keys.raw_id(one), fence))]


def claim_of(reply: list[Any], request: Request) -> Claim:
    token = request.fence.encode()
    jobs = [
        ClaimedJob(
            keys.id_of(reply[i]), reply[i + 1], reply[i + 2], _time_ms(reply[i + 3]),
            reply[i + 4] == b"1", token,
        )
        for i in range(2, len(reply), 5)
    ]  # fmt: skip
    return Claim(reply[0], reply[1] if reply[1] >= 0 else None, jobs)


def _time_ms(score: bytes) -> int:
    """A place in the queue as a time; any client can put anything there, infinities too."""
    value = float(score)
    return int(value) if -(2**53) < value < 2**53 else 0


def texts(ids: Iterable[bytes]) -> list[str]:
    return [keys.id_of(one) for one in ids]


def batches(
    items: Iterable[T], size: int, weigh: Callable[[T], int] | None = None
) -> Iterator[list[T]]:
    """Consecutive lists of ``size`` items, the last one shorter; none for no items.

    With ``weigh``, an item's bytes, shorter ones too: as much as one call carries.
    """
    batch: list[T] = []
    weight = 0
    for item in items:
        if weigh is not None:
            more = weigh(item)
            if batch and weight + more > CALL_BYTES:
                yield batch
                batch, weight = [], 0
            weight += more
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch, weight = [], 0
    if batch:
        yield batch
