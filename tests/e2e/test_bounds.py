"""What is left in the broker after all kinds of jobs ends by itself, or is kept by intent."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from redis.asyncio import Redis

from producer.cancel import cancel_jobs
from tests.e2e.conftest import ROOT, Start, wait_noted
from tests.worker.hosting import enqueue, outcomes
from twolane import dead, keys, runs, wire
from twolane.registry import Registry
from twolane.store import NewJob, Store

PAGE = ROOT / "docs" / "reliability.md"
HOUR, DAY = 3600, 86_400

# Key patterns, and for how many seconds a key lives at the most; None: kept by intent.
BOUNDS: dict[str, int | None] = {
    "arq:job:*": None,
    "arq:queue": None,
    "arq:queue:cpu": None,
    "arq:in-progress:*": 10,
    "arq:retry:*": DAY + HOUR,
    "arq:result:*": HOUR,
    "arq:abort": None,
    "twolane:run:*": 7 * DAY,
    "twolane:runs": None,
    "twolane:counters:*": None,
    "twolane:worker:*": 10,
    "twolane:workers": None,
    "twolane:workers:*": None,
    "twolane:dead": None,
    "twolane:dead:*": None,
}


def pattern_of(key: str) -> str:
    for pattern in BOUNDS:
        if re.fullmatch(pattern.replace("*", ".*"), key):
            return pattern
    raise AssertionError(f"{key} is of no kind that is documented")


async def test_every_key_ends_within_its_documented_bound(
    client: Redis, registry: Registry, start: Start, notes: Path
) -> None:
    held = await enqueue(client, registry, "wait_for_go", *[{"directory": str(notes)}] * 2)
    for lane in keys.LANES:
        start(lane, "--lease", "10")
    await wait_noted(notes, "*", 2)
    await cancel_jobs(client, [runs.job_id(held, 0)])
    for function, arguments in (
        ("add", {"left": 1, "right": 2}), ("fail", {"message": "no"}), ("crash", {}),
        ("compute", {"seconds": 0.0}),
    ):  # fmt: skip
        await outcomes(client, await enqueue(client, registry, function, arguments))

    seen = set()
    for key in [one.decode() async for one in client.scan_iter("*")]:
        pattern = pattern_of(key)
        seen.add(pattern)
        bound = BOUNDS[pattern]
        if bound is not None:
            # Not ttl, which says 0 of a lease that has less than half a second left.
            assert 0 < await client.pttl(key) <= bound * 1000, key
    assert {"arq:result:*", "arq:in-progress:*", "twolane:run:*", "twolane:dead:*"} <= seen

    (notes / "go").touch()
    await outcomes(client, held)
    left = {pattern_of(one.decode()) async for one in client.scan_iter("*")}
    # Of jobs that are over only what is kept for a time, or for a person, is left.
    assert (
        left & {"arq:job:*", "arq:in-progress:*", "arq:retry:*", "arq:queue", "arq:abort"} == set()
    )


async def test_what_has_no_end_of_its_own_is_pruned_by_who_writes_it(
    client: Redis, registry: Registry, start: Start
) -> None:
    await client.zadd(keys.RUNS, {"ancient": 1})
    await client.zadd(keys.WORKERS, {"gone": 1})
    await client.zadd(keys.ABORTS, {"nobody's": 1})

    worker = start("io")
    await worker.heartbeat(client)
    await outcomes(client, await enqueue(client, registry, "add", {"left": 1, "right": 2}))

    assert await client.zscore(keys.RUNS, "ancient") is None
    assert await client.zscore(keys.WORKERS, "gone") is None
    assert await client.zscore(keys.ABORTS, "nobody's") is None


@pytest.mark.parametrize("lane", ["io", "cpu"])
async def test_no_lane_records_a_result_over_the_limit(
    client: Redis, registry: Registry, start: Start, lane: str
) -> None:
    start(lane)
    function = {"io": "many_zeros", "cpu": "many_zeros_computed"}[lane]

    run = await enqueue(client, registry, function, {"size": 17 * 1024 * 1024})
    (one,) = await outcomes(client, run)

    assert one.error is not None
    assert one.error.type == "ResultTooLarge"


async def test_no_entry_of_a_runs_stream_is_larger_than_documented(
    client: Redis, registry: Registry, start: Start
) -> None:
    start("io")
    start("cpu")
    whole = await enqueue(client, registry, "many_zeros", {"size": 1024 * 1024})
    failing = await enqueue(client, registry, "fail", {"message": "é\U0001f600" * 500_000})
    # Of a client of one's own: its name alone is a megabyte.
    await runs.create(client, "test", "of-long-names")
    payload = {"t": None, "f": "f" * 1_000_000, "a": [], "k": {}, "et": 0, "run": "of-long-names"}
    jobs = [NewJob("of-long-names-0000000", wire.dumps(payload))]
    await Store(client).enqueue_many(keys.IO_QUEUE, jobs, "of-long-names")
    await runs.seal(client, "of-long-names")

    sizes = {}
    for run in (whole, failing, "of-long-names"):
        await outcomes(client, run)
        entries = await client.xrange(keys.run_outcomes(run))
        ((_, fields),) = entries
        sizes[run] = sum(map(len, fields.values()))

    assert sizes[whole] <= 2048
    assert sizes["of-long-names"] <= 2048 + 20_200
    # Characters of up to four bytes.
    assert sizes[failing] <= 2048 + 4 * 20_200
    letters = [one async for one in dead.letters(client, await dead.ids(client))]
    assert max(len(one.function) for one in letters) <= 200


def test_the_page_names_each_kind_of_key() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert [pattern for pattern in BOUNDS if f"`{pattern}`" not in page] == []
