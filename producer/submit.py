"""Makes jobs of calls: all are checked before the first is enqueued."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from redis.asyncio import Redis

from twolane import runs, wire
from twolane.arguments import Signature
from twolane.channel import Channel
from twolane.errors import PayloadTooLarge, UsageError
from twolane.keys import LANES, QUEUES, Lane
from twolane.registry import Job, Registry
from twolane.runs import Run
from twolane.store import ENQUEUE_BATCH, NewJob, Opened, Store

NIL = b"\xc0"
RUN_BYTES = 65  # what a run's name, of 64 letters at most, takes in the place of NIL


class Call(NamedTuple):
    """A job and the arguments that one run of it gets, checked and ready for the wire."""

    job: Job
    args: list[Any]
    kwargs: dict[str, Any]


class Caller:
    """Makes calls of the jobs that a registry knows."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._signatures: dict[str, Signature] = {}

    def signature(self, name: str) -> Signature:
        """What a job accepts.

        Raises:
            UnknownJob: no module that was loaded has it.
        """
        if name not in self._signatures:
            self._signatures[name] = Signature(self._registry[name])
        return self._signatures[name]

    def call(self, name: str, arguments: Mapping[str, Any], *, from_text: bool = False) -> Call:
        """Check arguments against a job's signature; ``from_text`` reads those of a command line.

        Raises:
            UnknownJob, BadArguments, NotEncodable: the message names what is wrong.
        """
        signature = self.signature(name)
        args, kwargs = signature.check((), arguments, from_text=from_text)
        return Call(signature.job, args, kwargs)


async def submit(
    client: Redis,
    calls: Iterable[Call],
    kind: str,
    name: str | None = None,
    channel: Channel | None = None,
) -> Run:
    """Enqueue calls as one run, which is sealed then.

    An application that submits often keeps a ``channel`` open for it, and is spared what a pool of
    connections costs each call.

    Raises:
        UsageError: there is nothing to enqueue, or the run's name is taken.
        PayloadTooLarge: a call's arguments are over the limit. Nothing was enqueued.
    """
    made = list(calls)
    if not made:
        raise UsageError("nothing to enqueue")
    now_ms = time.time_ns() // 1_000_000
    # A call that is repeated (--count) is one object: it is encoded once.
    encoded = {id(call): encode(call, now_ms) for call in _distinct(made)}
    # A connection of its own lets the server take one batch while the next one is made.
    passing = Channel(client) if channel is None and len(made) > ENQUEUE_BATCH else None
    store = Store(client, channel or passing)

    async def enqueue(run: str) -> Opened | None:
        jobs = {QUEUES[lane]: _numbered(made, encoded, run, lane) for lane in LANES}
        return await store.enqueue_run(run, kind, jobs)

    try:
        chosen, opened = await runs.named(kind, name, enqueue)
    finally:
        if passing is not None:
            await passing.aclose()
    return Run(chosen, kind, opened.created_ms, opened.accepted, sealed=True)


def _distinct(calls: list[Call]) -> Iterable[Call]:
    return {id(call): call for call in calls}.values()


def _numbered(
    calls: list[Call], encoded: Mapping[int, bytes], run: str, lane: Lane
) -> Iterator[NewJob]:
    """A lane's jobs, made as they are sent: a million payloads need not be held at once."""
    tail = wire.dumps(run)
    for number, call in enumerate(calls):
        if call.job.lane == lane:
            yield NewJob(runs.job_id(run, number), encoded[id(call)] + tail)


def encode(call: Call, now_ms: int) -> bytes:
    """A payload but for its last value, the run's name, which is not known yet."""
    payload = wire.dumps(
        {
            "t": None,
            "f": call.job.name,
            "a": call.args,
            "k": call.kwargs,
            "et": now_ms,
            "run": None,
        }
    )
    if len(payload) + RUN_BYTES > wire.MAX_PAYLOAD_BYTES:
        raise PayloadTooLarge(
            f"job {call.job.name!r}: its arguments take {len(payload):,} bytes; "
            f"the limit is {wire.MAX_PAYLOAD_BYTES:,}"
        )
    return payload.removesuffix(NIL)
