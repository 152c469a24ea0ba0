"""The state machine of a job: each row of its table on a real server, and its page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis

from twolane import dead, keys, states
from twolane.states import TABLE, State, Transition
from twolane.store import Cancellation, ClaimedJob, Kind, NewJob, Settlement, Store

QUEUE = keys.IO_QUEUE
HOUR_MS = 3_600_000
ID = "r-0000001"
SCRIPTS = Path(states.__file__).parent / "lua"


class Subject:
    """One job on a real server, brought into any state and told of any event."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.store = Store(client)
        self.claims = 0
        self.stale: ClaimedJob | None = None
        self.held: ClaimedJob | None = None

    async def state(self) -> State:
        """What the keys say."""
        seconds, micros = await self.client.time()
        now_ms = seconds * 1000 + micros // 1000
        score = await self.client.zscore(QUEUE, ID)
        if await self.client.zscore(keys.DEAD, ID) is not None:
            assert await self.client.hget(keys.dead(ID), "payload") == b"payload"
            assert score is None
            return State.DEAD
        if score is not None:
            assert await self.client.get(keys.job(ID)) == b"payload"
            assert not await self.client.exists(keys.result(ID))
            if await self.client.exists(keys.in_progress(ID)):
                assert score > now_ms
                asked = await self.client.zscore(keys.ABORTS, ID) is not None
                return State.ABORTING if asked else State.RUNNING
            return State.WAITING if score <= now_ms else State.SCHEDULED
        if await self.client.exists(keys.job(ID)):
            assert not await self.client.exists(keys.in_progress(ID), keys.result(ID))
            return State.ASTRAY
        for key in (keys.in_progress(ID), keys.retry(ID)):
            assert not await self.client.exists(key)
        result = await self.client.get(keys.result(ID))
        if result is None:
            return State.UNKNOWN
        return State.CANCELLED if result == b"cancelled" else State.DONE

    # -- into a state

    async def become(self, state: State) -> None:
        if state in (State.UNKNOWN, State.SCHEDULED):
            if state is State.SCHEDULED:
                await self.enqueue(HOUR_MS)
            return
        # Every other state is reached with an earlier attempt behind it that lost its lease.
        await self.enqueue()
        await self.claim()
        self.stale = self.held
        await self.lease_ends()
        if state is State.ASTRAY:
            await self.place_is_deleted()
        if state in (State.WAITING, State.ASTRAY):
            return
        await self.claim()
        if state is State.ABORTING:
            await self.cancel()
        elif state is State.DONE:
            await self.acknowledge("done")
        elif state is State.DEAD:
            await self.acknowledge("failed")
        elif state is State.CANCELLED:
            await self.cancel()
            await self.acknowledge("cancelled")

    # -- events

    async def enqueue(self, delay_ms: int = 0) -> None:
        await self.store.enqueue_many(QUEUE, [NewJob(ID, b"payload", delay_ms)])

    async def claim(self) -> None:
        self.claims += 1
        claim = await self.store.claim(QUEUE, f"worker:{self.claims}", 10, HOUR_MS)
        self.held = claim.jobs[0] if claim.jobs else self.held

    def _attempt(self, fenced: bool) -> ClaimedJob:
        attempt = self.stale if fenced else self.held
        assert attempt is not None
        return attempt

    async def acknowledge(self, kind: Kind, keep_ms: int = -1, fenced: bool = False) -> None:
        one = self._attempt(fenced)
        result = b"cancelled" if kind == "cancelled" else b"result"
        settled = Settlement(ID, one.fence, result, keep_ms, kind, "work")
        refused = await self.store.acknowledge(QUEUE, [settled])
        assert refused == ([ID] if fenced else [])

    async def claim_aborted(self) -> None:
        await self.client.zadd(keys.ABORTS, {ID: 1})
        await self.claim()

    async def renew(self, fenced: bool = False) -> None:
        lost = await self.store.renew(QUEUE, [(ID, self._attempt(fenced).fence)], HOUR_MS)
        assert lost == ([ID] if fenced else [])

    async def retry(self, delay_ms: int, fenced: bool = False) -> None:
        given = [(ID, self._attempt(fenced).fence, delay_ms)]
        assert await self.store.retry(QUEUE, given) == ([ID] if fenced else [])

    async def release(self, fenced: bool = False) -> None:
        one = self._attempt(fenced)
        given = [(ID, one.fence, one.due_ms)]
        assert await self.store.release(QUEUE, given) == ([ID] if fenced else [])

    async def cancel(self) -> None:
        await self.store.cancel(QUEUE, [Cancellation(ID, b"cancelled")])

    async def revive(self) -> None:
        assert await self.store.revive([ID]) == []

    async def drop(self) -> None:
        assert await dead.drop(self.client, [ID]) == []

    # -- time: what the server does by itself then

    async def lease_ends(self) -> None:
        await self.client.delete(keys.in_progress(ID))
        await self.client.zadd(QUEUE, {ID: 1})

    async def time_comes(self) -> None:
        await self.client.zadd(QUEUE, {ID: 1})

    async def place_is_deleted(self) -> None:
        await self.client.zrem(QUEUE, ID)

    async def result_expires(self) -> None:
        await self.client.delete(keys.result(ID))


Event = Callable[[Subject], Awaitable[None]]
EVENTS: dict[str, Event] = {
    "enqueue": lambda one: one.enqueue(),
    "enqueue for later": lambda one: one.enqueue(HOUR_MS),
    "its time comes": Subject.time_comes,
    "claim": Subject.claim,
    "claim, its abort asked for": Subject.claim_aborted,
    "renew": lambda one: one.renew(),
    "lease ends": Subject.lease_ends,
    "retry at once": lambda one: one.retry(0),
    "retry later": lambda one: one.retry(HOUR_MS),
    "release": lambda one: one.release(),
    "acknowledge done": lambda one: one.acknowledge("done"),
    "acknowledge done, keep nothing": lambda one: one.acknowledge("done", keep_ms=0),
    "acknowledge failed": lambda one: one.acknowledge("failed"),
    "acknowledge cancelled": lambda one: one.acknowledge("cancelled"),
    "cancel": Subject.cancel,
    "result expires": Subject.result_expires,
    "its place is deleted": Subject.place_is_deleted,
    "dead retry": Subject.revive,
    "dead drop": Subject.drop,
    "fenced acknowledge": lambda one: one.acknowledge("done", fenced=True),
    "fenced renew": lambda one: one.renew(fenced=True),
    "fenced retry": lambda one: one.retry(0, fenced=True),
    "fenced release": lambda one: one.release(fenced=True),
}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.state.value}, {row.event}")
async def test_each_row_holds_on_a_real_server(client: Redis, row: Transition) -> None:
    subject = Subject(client)
    await subject.become(row.state)
    assert await subject.state() is row.state

    await EVENTS[row.event](subject)

    assert await subject.state() is row.next


async def test_a_job_whose_abort_was_asked_for_learns_of_it_at_its_next_claim(
    client: Redis,
) -> None:
    subject = Subject(client)
    await subject.become(State.ABORTING)
    await subject.retry(HOUR_MS)

    await subject.claim()

    assert subject.held is not None
    assert subject.held.abort


def test_no_state_has_two_rows_for_one_event() -> None:
    pairs = [(row.state, row.event) for row in TABLE]

    assert len(pairs) == len(set(pairs))


def test_every_script_has_its_rows_and_every_state_is_reached_and_explained() -> None:
    # Of other scripts; of the drop-in, whose jobs are arq's.
    parts = {"set_many", "give_back", "arq_settle"}
    scripts = {one.stem for one in SCRIPTS.glob("*.lua")} - parts
    assert {row.script for row in TABLE} - {""} == scripts
    assert {row.next for row in TABLE} == set(State) == set(states.MEANING)
    assert {row.event for row in TABLE} == set(EVENTS)


def test_the_page_has_the_table_as_it_is() -> None:
    page = Path(__file__).parents[2] / "docs" / "state-machine.md"

    assert states.markdown() in page.read_text(encoding="utf-8"), (
        "write it anew: python -m twolane.states, below the heading of docs/state-machine.md"
    )
