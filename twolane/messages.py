"""What is said to the store, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final, Literal, NamedTuple

import msgspec
from redis.exceptions import RedisError

Kind = Literal["done", "failed", "cancelled"]

# What a call or its reply carries at the most, or else one job: as much as one payload or one
# result may take. A network of 7 MB/s passes two on before a worker gives up a reply (after 5 s
# with the shortest leases, 15 s by default).
CALL_BYTES: Final = 16 * 1024 * 1024


class NewJob(NamedTuple):
    """A job to enqueue. ``delay_ms`` postpones it; ``ttl_ms`` 0 keeps its payload until it ran."""

    id: str
    payload: bytes
    delay_ms: int = 0
    ttl_ms: int = 0

    @property
    def weight(self) -> int:
        """How many bytes it adds to a call, but for a few."""
        return len(self.payload)


class ClaimedJob(msgspec.Struct, gc=False):
    """A job under lease. ``payload`` is None where it expired; ``due_ms`` is the server's clock."""

    id: str
    payload: bytes | None
    try_: int
    due_ms: int
    abort: bool
    fence: bytes


class Claim(NamedTuple):
    """An answer to a claim. ``next_due_ms`` is None where no later job is known."""

    now_ms: int
    next_due_ms: int | None
    jobs: list[ClaimedJob]


class Settlement(NamedTuple):
    """A job's final outcome, in the order of the script's arguments.

    ``keep_ms`` -1 keeps the result for good, 0 keeps none. ``run`` is empty for none. ``entry`` is
    what goes on the run's stream; empty for the result itself.
    """

    id: str
    fence: bytes
    result: bytes
    keep_ms: int
    kind: Kind
    function: str
    run: str = ""
    entry: bytes = b""

    @property
    def weight(self) -> int:
        """How many bytes it adds to a call, but for a few."""
        return len(self.result) + len(self.entry)


_RESULT: Final = itemgetter(Settlement._fields.index("result"))
_ENTRY: Final = itemgetter(Settlement._fields.index("entry"))


def weight_of(settled: list[Settlement]) -> int:
    """The bytes of all of them; without a call for each, as every outcome passes here twice."""
    return sum(map(len, map(_RESULT, settled))) + sum(map(len, map(_ENTRY, settled)))


class Cancellation(NamedTuple):
    """A job to cancel, with the result to record in case that it has not started."""

    id: str
    result: bytes
    run: str = ""


class Opened(NamedTuple):
    """A run that was made: when, on the server's clock, and how many of its jobs were not known."""

    created_ms: int
    accepted: int


@dataclass(slots=True)
class Report:
    """What a worker has to tell: outcomes, and what it gives back.

    ``retries`` have id, fence and delay in ms; ``releases`` id, fence and the time they were due.
    """

    settled: list[Settlement] = field(default_factory=list)
    retries: list[tuple[str, bytes, int]] = field(default_factory=list)
    releases: list[tuple[str, bytes, int]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.settled or self.retries or self.releases)

    def ids(self) -> list[str]:
        return [one[0] for kind in (self.settled, self.retries, self.releases) for one in kind]

    def take(self, limit: int) -> Report:
        """The first ``limit`` of each kind, which are taken out of this one.

        Of what has settled only as much as one call carries, and one at the least.
        """
        count = min(limit, len(self.settled))
        while count > 1 and weight_of(self.settled[:count]) > CALL_BYTES:
            count -= 1
        taken = Report(self.settled[:count], self.retries[:limit], self.releases[:limit])
        del self.settled[:count], self.retries[:limit], self.releases[:limit]
        return taken

    def put_back(self, taken: Report) -> None:
        self.settled[:0], self.retries[:0] = taken.settled, taken.retries
        self.releases[:0] = taken.releases


class Request(NamedTuple):
    """What a worker asks for: up to ``limit`` jobs under a lease. ``fence`` is new each time.

    Of ``workers`` that share the queue each gets its share of what is due, where that is less.
    """

    fence: str
    limit: int
    lease_ms: int
    workers: int = 1
    asked_at: float = float("inf")  # on the monotonic clock, s


class Exchanged(NamedTuple):
    """An answer to an exchange.

    ``fenced`` are the ids that were no longer the caller's. ``untold`` is what the server refused
    to record, with its ``error``; the claim stands all the same.
    """

    claim: Claim | None
    fenced: list[str]
    untold: Report
    error: RedisError | None
