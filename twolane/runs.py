"""Runs: what was enqueued together, how far it has come, and the outcomes as they arrive."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Container
from typing import Any, Final, TypeVar

import msgspec
from redis.asyncio import Redis

from twolane import keys, outcome
from twolane.errors import UnknownRun, UsageError
from twolane.outcome import Outcome
from twolane.store import Store

T = TypeVar("T")

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
LETTERS: Final = "abcdefghjkmnpqrstvwxyz23456789"  # none that is mistaken for another
LOOK_BATCH: Final = 1_000  # jobs that one look asks for
READ_BATCH: Final = 100  # entries of the stream, each with up to 32 outcomes


class Run(msgspec.Struct):
    """A run as the broker knows it now. ``sealed`` says that nothing more will be enqueued."""

    name: str
    kind: str
    created_ms: int
    total: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    sealed: bool = False

    @property
    def settled(self) -> int:
        return self.done + self.failed + self.cancelled

    @property
    def waiting(self) -> int:
        """Jobs that have not settled: waiting, running, or due for another try."""
        return max(0, self.total - self.settled)

    @property
    def is_over(self) -> bool:
        return self.sealed and self.settled >= self.total


def job_id(run: str, number: int) -> str:
    """The id of a run's job; jobs that are due at once are claimed in the order of their ids."""
    return f"{run}-{number:07d}"


async def named(
    kind: str, name: str | None, open_run: Callable[[str], Awaitable[T | None]]
) -> tuple[str, T]:
    """Find a run's name, its kind and some random letters where none is given.

    ``open_run`` makes the run and returns None where its name is taken.

    Raises:
        UsageError: the name is taken, or is not one: letters, digits, ``_ . -``, at most 64.
    """
    if name is not None and not NAME.fullmatch(name):
        raise UsageError(
            f"run name {name!r}: letters, digits, '_', '.' and '-' only, at most 64, and a letter "
            "or digit first"
        )
    for _ in range(8):
        chosen = name or f"{kind}-{''.join(secrets.choice(LETTERS) for _ in range(5))}"
        opened = await open_run(chosen)
        if opened is not None:
            return chosen, opened
        if name is not None:
            raise UsageError(f"a run named {name!r} exists; choose another name for --run")
    raise UsageError("no free name found for the run; give one with --run")


async def create(client: Redis, kind: str, name: str | None = None) -> Run:
    """Make a run that has no jobs yet; raises as :func:`named` does."""
    store = Store(client)
    chosen, created_ms = await named(kind, name, lambda run: store.open_run(run, kind))
    return Run(chosen, kind, created_ms)


async def seal(client: Redis, name: str) -> None:
    """Say that nothing more will be enqueued for a run."""
    await Store(client).seal_run(name)


async def get(client: Redis, name: str) -> Run:
    """The run of that name.

    Raises:
        UnknownRun: there is none (any more: runs are kept for 7 days after their last job).
    """
    # redis-py's annotation is that of its two clients, the blocking one too.
    fields = await client.hgetall(keys.run(name))  # type: ignore[misc]
    if not fields:
        raise UnknownRun(
            f"no run is named {name!r}; `twolane runs` lists them (they are kept for 7 days)"
        )
    return _from_hash(name, fields)


async def latest(client: Redis, limit: int) -> list[Run]:
    """The newest runs, the newest first."""
    names = [one.decode() for one in await client.zrevrange(keys.RUNS, 0, limit - 1)]
    async with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hgetall(keys.run(name))
        hashes = await pipe.execute()
    return [_from_hash(name, fields) for name, fields in zip(names, hashes, strict=True) if fields]


async def read(
    client: Redis, name: str, after: str = "0", wait_ms: int | None = None
) -> tuple[str, list[Outcome]]:
    """Up to 3,200 outcomes that came after a position; the new position with them.

    With ``wait_ms`` it waits as long for the first one. A job that settled, was retried from the
    dead letters and settled again comes twice: the later one counts.
    """
    reply = await client.xread({keys.run_outcomes(name): after}, count=READ_BATCH, block=wait_ms)
    if not reply:
        return after, []
    entries = reply[0][1]
    found = [outcome.decode(one) for _, fields in entries for one in fields.values()]
    return entries[-1][0].decode(), found


async def nowhere(client: Redis, run: Run, settled: Container[str]) -> int:
    """How many jobs of a run neither wait nor run, if that is so of all that have not settled.

    Else 0; also where not all are enqueued yet. Such jobs were in a queue that was deleted: nothing
    will come of them.
    """
    if not run.sealed:
        return 0
    ids = (job_id(run.name, number) for number in range(run.total))
    missing = [one for one in ids if one not in settled]
    for first in range(0, len(missing), LOOK_BATCH):
        batch = missing[first : first + LOOK_BATCH]
        async with client.pipeline() as pipe:
            for queue in keys.QUEUES.values():
                pipe.zmscore(queue, batch)
            pipe.exists(*map(keys.in_progress, batch))
            *places, leased = await pipe.execute()
        if leased or any(score is not None for found in places for score in found):
            return 0
    return len(missing)


async def read_all(client: Redis, name: str) -> AsyncIterator[list[Outcome]]:
    """The outcomes that there are now, in batches."""
    position = "0"
    while True:
        position, found = await read(client, name, position)
        if not found:
            return
        yield found


async def complete(client: Redis, found: list[Outcome]) -> list[Outcome]:
    """Fill in what was left out of the stream because of its size, from the results' keys.

    An outcome whose result has expired since stays partial.
    """
    missing = [index for index, one in enumerate(found) if one.partial]
    if not missing:
        return found
    stored = await client.mget([keys.result(found[index].id) for index in missing])
    whole = list(found)
    for index, data in zip(missing, stored, strict=True):
        if data is not None:
            whole[index] = outcome.decode(data)
    return whole


def _from_hash(name: str, fields: dict[bytes, bytes]) -> Run:
    numbers: dict[str, Any] = {
        field: int(fields.get(field.encode(), b"0"))
        for field in ("created_ms", "total", "done", "failed", "cancelled")
    }
    kind = fields.get(b"kind", b"").decode("utf-8", "replace")
    return Run(name=name, kind=kind, sealed=b"sealed" in fields, **numbers)
