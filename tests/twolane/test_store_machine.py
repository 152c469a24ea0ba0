"""Any sequence of queue operations, by several workers, against a model of what must hold.

The model knows each job's *lives* (it begins one when it is enqueued or revived, and ends it when
it settles) and predicts each reply. After every step the broker is read whole and compared.

The file is long because a model of every operation is one thing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis.asyncio import Redis

from twolane import keys, runs
from twolane.broker import connect
from twolane.states import TABLE, State
from twolane.store import Cancellation, Kind, NewJob, Settlement, Store

QUEUE = keys.IO_QUEUE
HOUR_MS = 3_600_000
RUNS = ("r1", "r2")
IDS = tuple("abcd")

# What the table of states allows in one step; the model does not tell done from cancelled.
CHANGES = {
    (row.state, State.DONE if row.next is State.CANCELLED else row.next) for row in TABLE
} | {(state, state) for state in State}

T = TypeVar("T")
some_ids = st.lists(st.sampled_from(IDS), min_size=1, max_size=4)
# Places among the attempts that hold their jobs and, behind them, the latest that do not.
some_attempts = st.lists(st.integers(0, 9), min_size=1, max_size=4)
seldom = st.sampled_from([False, False, False, True])
keeps = st.sampled_from([0, HOUR_MS, -1])


@dataclass(frozen=True)
class Attempt:
    """What a worker knows of a job that it claimed."""

    id: str
    fence: bytes
    life: str
    run: str
    due_ms: int


@dataclass
class Model:
    """One id, as the broker must know it."""

    lives: int = 0
    run: str = ""
    waits: bool = False  # it is in the queue, held or not
    due: bool = False  # it waits, and not for later
    fence: bytes | None = None
    tries: int = 0
    abort: bool = False
    result: bool = False
    letter: tuple[str, str] | None = None  # a dead letter: its payload and its run

    @property
    def known(self) -> bool:
        return self.waits or self.result

    @property
    def payload(self) -> str:
        return self._payload

    def begin(self, payload: str, run: str, *, due: bool) -> None:
        self.lives += 1
        self._payload, self.run = payload, run
        self.waits, self.due, self.fence, self.tries = True, due, None, 0

    def end(self, *, result: bool) -> None:
        self.waits = self.due = self.abort = False
        self.fence, self.tries = None, 0
        self.result = self.result or result

    _payload: str = ""


@dataclass
class Totals:
    counters: dict[str, int] = field(default_factory=dict)
    runs: dict[str, dict[str, int]] = field(default_factory=lambda: {run: {} for run in RUNS})
    entries: dict[str, list[str]] = field(default_factory=lambda: {run: [] for run in RUNS})

    def add(self, name: str, run: str = "", count: int = 1, *, in_run: str = "") -> None:
        if count:
            self.counters[name] = self.counters.get(name, 0) + count
        if run and count:
            of_run = self.runs[run]
            of_run[in_run or name] = of_run.get(in_run or name, 0) + count


class Machine(RuleBasedStateMachine):
    runner: asyncio.Runner
    client: Redis

    def __init__(self) -> None:
        super().__init__()
        self.store = Store(self.client)
        self.models = {one: Model() for one in IDS}
        self.totals = Totals()
        self.attempts: list[Attempt] = []
        self.claims = 0
        self.states = dict.fromkeys(IDS, State.UNKNOWN)
        self.do(self.client.flushall())
        for run in RUNS:
            self.do(runs.create(self.client, "test", run))

    def any(self, holds: Callable[[Model], object]) -> bool:
        return any(holds(model) for model in self.models.values())

    def do(self, what: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(what)

    def pick(self, places: list[int]) -> list[Attempt]:
        held = [one for one in self.attempts if self.models[one.id].fence == one.fence]
        stale = [one for one in self.attempts if one not in held][-3:]
        among = held + stale
        return [among[place % len(among)] for place in places]

    def holders(self, picked: list[Attempt]) -> tuple[list[Attempt], list[str]]:
        """Which of the attempts hold their job still, each once, and the ids of the others."""
        held: list[Attempt] = []
        fenced: list[str] = []
        for one in picked:
            if self.models[one.id].fence == one.fence and one not in held:
                held.append(one)
            else:
                fenced.append(one.id)
        self.totals.add("fenced", count=len(fenced))
        return held, fenced

    def settles(self, model: Model, life: str, kind: Kind, run: str) -> None:
        self.totals.add(kind, run)
        if run:
            self.totals.entries[run].append(life)

    # --- producers and people

    @precondition(lambda self: self.any(lambda model: not model.known))
    @rule(ids=some_ids, run=st.sampled_from(["", *RUNS]), later=seldom)
    def enqueue(self, ids: list[str], run: str, later: bool) -> None:
        jobs, refused = [], []
        for one in ids:
            model = self.models[one]
            payload = f"{one}/{model.lives + 1}/{run}"
            jobs.append(NewJob(one, payload.encode(), HOUR_MS if later else 0))
            if model.known:
                refused.append(one)
            else:
                model.begin(payload, run, due=not later)
                self.totals.add("enqueued", run, in_run="total")

        assert self.do(self.store.enqueue_many(QUEUE, jobs, run)) == refused

    @precondition(lambda self: self.any(lambda model: model.waits))
    @rule(ids=st.lists(st.sampled_from(IDS), min_size=1, max_size=2))
    def cancel(self, ids: list[str]) -> None:
        settled = asked = 0
        orders = []
        for one in ids:
            model = self.models[one]
            orders.append(Cancellation(one, model.payload.encode(), model.run))
            if model.fence is not None:
                asked, model.abort = asked + 1, True
            elif model.waits:
                settled += 1
                self.settles(model, model.payload, "cancelled", model.run)
                model.end(result=True)

        assert self.do(self.store.cancel(QUEUE, orders)) == (settled, asked)

    @precondition(lambda self: self.any(lambda model: model.letter))
    @rule(data=st.data(), ids=st.lists(st.sampled_from(IDS), max_size=1))
    def revive(self, data: st.DataObject, ids: list[str]) -> None:
        dead = [one for one, model in self.models.items() if model.letter]
        ids, refused = [data.draw(st.sampled_from(dead)), *ids], []
        for one in ids:
            model = self.models[one]
            if model.letter is None or model.waits:
                refused.append(one)
                continue
            payload, run = model.letter
            model.letter, model.result = None, False
            model.begin(payload, run, due=True)
            self.totals.add("revived")
            if run:
                self.totals.runs[run]["failed"] -= 1

        assert self.do(self.store.revive(ids)) == refused

    # --- workers

    @precondition(lambda self: self.any(lambda model: model.due))
    @rule(count=st.sampled_from([4, 3, 2, 1, 0]))
    def claim(self, count: int) -> None:
        self.claims += 1
        due = {one for one, model in self.models.items() if model.due}

        claim = self.do(self.store.claim(QUEUE, f"fence-{self.claims}", count, HOUR_MS))

        assert len(claim.jobs) == min(count, len(due))
        for job in claim.jobs:
            assert job.id in due
            due.remove(job.id)  # each once
            model = self.models[job.id]
            model.tries, model.fence, model.due = model.tries + 1, job.fence, False
            assert job.payload == model.payload.encode()
            assert (job.try_, job.abort) == (model.tries, model.abort)
            self.attempts.append(Attempt(job.id, job.fence, model.payload, model.run, job.due_ms))

    @precondition(lambda self: self.attempts)
    @rule(places=some_attempts, without_place=seldom)
    def renew(self, places: list[int], without_place: bool) -> None:
        picked = self.pick(places)
        lost = [one.id for one in picked if self.models[one.id].fence != one.fence]
        if without_place:  # somebody deleted it; what is held has it again
            for one in picked:
                if one.id not in lost:
                    self.do(self.client.zrem(QUEUE, one.id))

        found = self.do(
            self.store.renew(QUEUE, [(one.id, one.fence) for one in picked], 2 * HOUR_MS)
        )

        assert found == lost

    # Three rules for what one could say: the strategies seldom come to a rare kind otherwise.

    @precondition(lambda self: self.attempts)
    @rule(places=some_attempts, keep=keeps)
    def succeed(self, places: list[int], keep: int) -> None:
        self.acknowledge(places, "done", keep)

    @precondition(lambda self: self.attempts)
    @rule(places=some_attempts, keep=keeps)
    def fail(self, places: list[int], keep: int) -> None:
        self.acknowledge(places, "failed", keep)

    @precondition(lambda self: self.attempts)
    @rule(places=some_attempts, keep=keeps)
    def give_up(self, places: list[int], keep: int) -> None:
        self.acknowledge(places, "cancelled", keep)

    def acknowledge(self, places: list[int], kind: Kind, keep: int) -> None:
        picked = self.pick(places)
        held, fenced = self.holders(picked)
        for one in held:
            model = self.models[one.id]
            self.settles(model, one.life, kind, one.run)
            if kind == "failed":
                model.letter = one.life, one.run
            model.end(result=keep != 0)

        settled = [
            Settlement(one.id, one.fence, one.life.encode(), keep, kind, "work", one.run)
            for one in picked
        ]
        assert self.do(self.store.acknowledge(QUEUE, settled)) == fenced

    @precondition(lambda self: self.attempts)
    @rule(places=some_attempts, later=st.booleans())
    def retry(self, places: list[int], later: bool) -> None:
        picked = self.pick(places)
        held, fenced = self.holders(picked)
        for one in held:
            model = self.models[one.id]
            model.fence, model.due = None, model.abort or not later
        self.totals.add("retried", count=len(held))

        delay = HOUR_MS if later else 0
        given = [(one.id, one.fence, delay) for one in picked]
        assert self.do(self.store.retry(QUEUE, given)) == fenced

    @precondition(lambda self: self.attempts)
    @rule(places=some_attempts)
    def release(self, places: list[int]) -> None:
        picked = self.pick(places)
        held, fenced = self.holders(picked)
        for one in held:
            model = self.models[one.id]
            model.fence, model.due, model.tries = None, True, model.tries - 1
        self.totals.add("released", count=len(held))

        given = [(one.id, one.fence, one.due_ms) for one in picked]
        assert self.do(self.store.release(QUEUE, given)) == fenced

    # --- time

    @precondition(lambda self: self.attempts)
    @rule(places=some_attempts)
    def leases_end(self, places: list[int]) -> None:
        for one in self.pick(places):
            model = self.models[one.id]
            if model.fence == one.fence:
                model.fence, model.due = None, True
                self.do(self.client.delete(keys.in_progress(one.id)))
                self.do(self.client.zadd(QUEUE, {one.id: 1}))

    @precondition(lambda self: self.any(lambda model: model.waits and not model.due))
    @rule(ids=some_ids)
    def delays_pass(self, ids: list[str]) -> None:
        for one in ids:
            model = self.models[one]
            if model.waits and model.fence is None:
                model.due = True
                self.do(self.client.zadd(QUEUE, {one: 1}))

    @precondition(lambda self: self.any(lambda model: model.result))
    @rule(ids=some_ids)
    def results_expire(self, ids: list[str]) -> None:
        for one in ids:
            self.models[one].result = False
            self.do(self.client.delete(keys.result(one)))

    # --- what must hold

    @invariant()
    def the_broker_holds_what_the_model_does(self) -> None:
        self.do(self._compare())

    async def _compare(self) -> None:
        async with self.client.pipeline(transaction=False) as pipe:
            for one in IDS:
                pipe.zscore(QUEUE, one)
                pipe.get(keys.job(one))
                pipe.get(keys.in_progress(one))
                pipe.get(keys.retry(one))
                pipe.zscore(keys.ABORTS, one)
                pipe.exists(keys.result(one))
                pipe.zscore(keys.DEAD, one)
                pipe.hget(keys.dead(one), "payload")
            pipe.hgetall(keys.counters(QUEUE))
            pipe.zcard(QUEUE)
            pipe.time()
            for run in RUNS:
                pipe.hgetall(keys.run(run))
                pipe.xrange(keys.run_outcomes(run))
            read = await pipe.execute()
        per_run = [read[-2 * len(RUNS) :][n * 2 : n * 2 + 2] for n in range(len(RUNS))]
        raw_counters, in_queue, (seconds, micros) = read[8 * len(IDS) : 8 * len(IDS) + 3]
        now_ms = seconds * 1000 + micros // 1000

        for number, one in enumerate(IDS):
            score, payload, fence, tries, abort, result, died, letter = read[
                number * 8 : number * 8 + 8
            ]
            model = self.models[one]
            # No job is lost: it is in the queue, payload and all, from its beginning to its end.
            assert (score is not None) == (payload is not None) == model.waits, one
            assert payload == (model.payload.encode() if model.waits else None), one
            assert (score is not None and score <= now_ms) == model.due, one
            assert fence == model.fence, one
            assert int(tries or 0) == model.tries, one
            assert (abort is not None) == model.abort, one
            assert bool(result) == model.result, one
            assert (died is not None) == (model.letter is not None), one
            assert letter == (model.letter[0].encode() if model.letter else None), one

            if score is None:
                state = State.DEAD if letter else State.DONE if result else State.UNKNOWN
            elif fence is None:
                state = State.WAITING if model.due else State.SCHEDULED
            else:
                state = State.RUNNING if abort is None else State.ABORTING
            # A new life beside an old dead letter goes its own way.
            before, self.states[one] = self.states[one], state
            assert letter or (before, state) in CHANGES, (one, before, state)

        counters = {name.decode(): int(value) for name, value in raw_counters.items()}
        assert counters == self.totals.counters
        begun = counters.get("enqueued", 0) + counters.get("revived", 0)
        ended = sum(counters.get(kind, 0) for kind in ("done", "failed", "cancelled"))
        assert begun == in_queue + ended

        for run, (fields, entries) in zip(RUNS, per_run, strict=True):
            numbers = {
                name: int(fields.get(name.encode(), 0))
                for name in ("total", "done", "failed", "cancelled")
            }
            assert numbers == {name: self.totals.runs[run].get(name, 0) for name in numbers}
            waiting = sum(model.waits and model.run == run for model in self.models.values())
            assert numbers["total"] == waiting + sum(numbers.values()) - numbers["total"]
            # A life that ended is one entry; none ends twice.
            assert [
                one.decode() for _, entry in entries for one in entry.values()
            ] == self.totals.entries[run]


@pytest.fixture
def machine(broker: str) -> Iterator[type[Machine]]:
    with asyncio.Runner() as runner:
        made = connect(broker)
        yield type("StoreMachine", (Machine,), {"runner": runner, "client": made})
        runner.run(made.aclose())


@pytest.mark.parametrize("number", range(4))
def test_no_sequence_of_operations_loses_or_settles_twice(
    machine: type[Machine], number: int
) -> None:
    run_state_machine_as_test(
        seed(number)(machine),
        settings=settings(
            max_examples=25,
            stateful_step_count=50,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            # To look into a failure add Phase.shrink, and time: it takes minutes.
            phases=(Phase.explicit, Phase.generate),
            report_multiple_bugs=False,
        ),
    )
