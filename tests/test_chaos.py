"""The chaos harness: that its judge condemns what it should, and that its parts do as they say.

One file, long as it is: all of it loads the harness by the fixture below.
"""

from __future__ import annotations

import asyncio
import json
import operator
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import redis.exceptions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from twolane import dead, keys, outcome, wire
from twolane.broker import connect
from twolane.outcome import Outcome
from twolane.store import NewJob, Store

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "scripts"
SECOND = 1_000_000_000
ALL_LOOKS = ("lost", "twice", "stale", "unsettled", "left", "hollow")


@pytest.fixture(scope="module")
def chaos() -> Iterator[SimpleNamespace]:
    """The harness's modules; `scripts` is no package of the project."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        from chaoslab import (
            catalog,
            cli,
            docs,
            fleet,
            judge,
            lab,
            ledger,
            proxy,
            samples,
            slopes,
            soak,
            table,
            valkey,
        )

        catalog.load()
        yield SimpleNamespace(
            catalog=catalog,
            cli=cli,
            docs=docs,
            fleet=fleet,
            judge=judge,
            lab=lab,
            ledger=ledger,
            proxy=proxy,
            samples=samples,
            slopes=slopes,
            soak=soak,
            table=table,
            valkey=valkey,
        )
    finally:
        sys.path.remove(str(SCRIPTS))


def script(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chaoslab", *arguments],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{SCRIPTS}:{ROOT}", **variables},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


# -- The judge: times are seconds of the monotonic clock, which is the wall clock here --


def record(chaos: SimpleNamespace, job_id: str, at: float, worker: int = 1, try_: int = 1) -> Any:
    made = Outcome(
        try_, "nap", [], {}, 0, True, None, 0, 0, "arq:queue", job_id, worker=f"io-h-{worker}-ab12"
    )
    return chaos.judge.Record(int(at * 1000), outcome.decode(outcome.encode(made)[0]))


def line(
    chaos: SimpleNamespace, kind: str, job_id: str, at: float, worker: int = 1, try_: int = 1
) -> Any:
    return chaos.ledger.Entry(kind, job_id, worker, worker, try_, round(at * SECOND))


def case(
    chaos: SimpleNamespace, ids: str, entries: list[Any], records: list[Any], **rest: Any
) -> Any:
    return chaos.judge.Case(dict.fromkeys(ids, "done"), entries, records, wall_ns=0, **rest)


def test_a_job_that_is_nowhere_is_lost_and_one_in_the_queue_is_unsettled(
    chaos: SimpleNamespace,
) -> None:
    made = case(chaos, "abc", [], [record(chaos, "a", 1)], waiting={"b"})

    assert chaos.judge.lost(made) == ["c"]
    assert chaos.judge.unsettled(made) == ["b"]


def test_a_job_recorded_more_often_than_it_lived_is_told(chaos: SimpleNamespace) -> None:
    records = [record(chaos, one, 1) for one in "aabbc"]
    made = case(chaos, "abc", [], records, lives={"b": 2})

    assert chaos.judge.twice(made) == ["a"]


def test_an_outcome_of_an_attempt_that_was_replaced_is_stale(chaos: SimpleNamespace) -> None:
    entries = [line(chaos, "start", "a", 1), line(chaos, "start", "a", 3, worker=2, try_=2)]

    accepted = case(chaos, "a", entries, [record(chaos, "a", 5)])
    in_order = case(chaos, "a", entries, [record(chaos, "a", 5, worker=2, try_=2)])
    before = case(chaos, "a", entries, [record(chaos, "a", 2.9)])

    assert chaos.judge.stale(accepted) == ["a"]
    assert chaos.judge.stale(in_order) == []
    assert chaos.judge.stale(before) == []


def test_a_life_that_was_not_recorded_is_missed_though_an_earlier_one_was(
    chaos: SimpleNamespace,
) -> None:
    records = [record(chaos, one, 1) for one in "ab"]
    made = case(chaos, "ab", [], records, waiting={"b"}, lives={"a": 2, "b": 2})

    assert chaos.judge.lost(made) == ["a"]
    assert chaos.judge.unsettled(made) == ["b"]
    assert chaos.judge.left(made) == []


def test_a_job_that_is_over_and_in_a_queue_still_is_told(chaos: SimpleNamespace) -> None:
    made = case(chaos, "ab", [], [record(chaos, "a", 1)], waiting={"a", "b"})

    assert chaos.judge.left(made) == ["a"]


def test_a_job_that_is_done_without_its_effect_is_hollow(chaos: SimpleNamespace) -> None:
    entries = [
        line(chaos, "effect", "a", 1), line(chaos, "start", "b", 1),
        line(chaos, "effect", "c", 1, worker=2), line(chaos, "effect", "d", 1, try_=2),
        line(chaos, "effect", "e", 1, try_=0),
    ]  # fmt: skip
    made = case(chaos, "abcde", entries, [record(chaos, one, 2) for one in "abcde"])

    assert chaos.judge.hollow(made) == ["b", "c", "d"]


# One job's true history: of each attempt its worker, whether it was let to its effect, and how many
# seconds it ran; the last one is recorded.
histories = st.lists(
    st.tuples(st.integers(1, 3), st.booleans(), st.integers(1, 5)), min_size=1, max_size=5
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(of_jobs=st.lists(histories, min_size=1, max_size=6), data=st.data())
def test_no_true_history_is_condemned_and_no_crime_in_one_is_missed(
    chaos: SimpleNamespace, of_jobs: list[list[tuple[int, bool, int]]], data: st.DataObject
) -> None:
    entries, records = [], []
    for number, attempts in enumerate(of_jobs):
        at = 10.0
        for try_, (worker, has_effect, took) in enumerate(attempts, start=1):
            about = {"worker": worker, "try_": try_}
            entries.append(line(chaos, "start", f"j{number}", at, **about))
            at += took
            if has_effect or try_ == len(attempts):
                entries.append(line(chaos, "effect", f"j{number}", at, **about))
            at += 1
        records.append(record(chaos, f"j{number}", at - 0.5, worker, try_))
    ids = [f"j{number}" for number in range(len(of_jobs))]

    def condemned(entries: list[Any], records: list[Any], waiting: set[str]) -> dict[str, Any]:
        made = case(chaos, "", entries, records, waiting=waiting)
        made.expected = dict.fromkeys(ids, "done")
        return {one: found for one in ALL_LOOKS if (found := getattr(chaos.judge, one)(made))}

    assert condemned(entries, records, set()) == {}

    victim = data.draw(st.sampled_from(range(len(ids))))
    job_id, own = ids[victim], records[victim]
    others = [one for one in records if one is not own]
    assert condemned(entries, others, set()) == {"lost": [job_id]}
    assert condemned(entries, others, {job_id}) == {"unsettled": [job_id]}
    assert condemned(entries, [*records, own], set()) == {"twice": [job_id]}
    assert condemned(entries, records, {job_id}) == {"left": [job_id]}
    without = [one for one in entries if (one.id, one.kind) != (job_id, "effect")]
    assert condemned(without, records, set()) == {"hollow": [job_id]}
    # An earlier attempt's outcome, recorded when the next one had begun.
    if len(of_jobs[victim]) > 1:
        try_ = data.draw(st.integers(1, len(of_jobs[victim]) - 1))
        late = record(chaos, job_id, own.at_ms / 1000, of_jobs[victim][try_ - 1][0], try_)
        assert "stale" in condemned(entries, [*others, late], set())


def test_an_effect_had_again_is_a_duplicate_run(chaos: SimpleNamespace) -> None:
    entries = [line(chaos, "effect", one, at) for at, one in enumerate("aaab")]

    assert chaos.judge.duplicates(case(chaos, "ab", entries, [])) == 2


def test_another_outcome_than_the_expected_one_is_told(chaos: SimpleNamespace) -> None:
    made = case(chaos, "a", [], [record(chaos, "a", 1)])
    made.expected = {"a": "failed JobTimeout"}

    assert chaos.judge.wrong(made) == ["1 jobs done, expected failed JobTimeout"]


def test_recovery_counts_from_the_fault_for_what_ran_then(chaos: SimpleNamespace) -> None:
    entries = [
        line(chaos, "start", "a", 1), line(chaos, "start", "b", 1), line(chaos, "effect", "b", 2),
        line(chaos, "start", "a", 4.5, try_=2), line(chaos, "start", "c", 4),
    ]  # fmt: skip

    assert chaos.judge.recoveries(entries, 3 * SECOND) == [1.5]


def test_percentiles_are_values_that_were_seen(chaos: SimpleNamespace) -> None:
    values = [float(one) for one in range(1, 101)]

    assert chaos.judge.percentile(values, 0.5) == 50
    assert chaos.judge.percentile(values, 0.99) == 99
    assert chaos.judge.percentile([7.0], 0.99) == 7


# -- The ledger --


def test_the_ledger_reads_what_jobs_write(chaos: SimpleNamespace, tmp_path: Path) -> None:
    book = chaos.ledger.Ledger(tmp_path / "ledger")

    book.acknowledge(["r-1", "r-2"])
    chaos.ledger.write("start", "r-1", 2, path=str(book.path))

    assert [one.id for one in book.read("acknowledged")] == ["r-1", "r-2"]
    (start,) = book.read("start")
    assert (start.id, start.try_) == ("r-1", 2)


def test_the_ledger_is_read_on_from_where_it_was_read_to(
    chaos: SimpleNamespace, tmp_path: Path
) -> None:
    book = chaos.ledger.Ledger(tmp_path / "ledger")
    book.acknowledge(["a"])

    assert [one.id for one in book.read_new()] == ["a"]
    chaos.ledger.append(str(book.path), b"\nacknowledged\tb\t0\t0\t0\t1\t.\n\nacknowledged\tc")
    assert [one.id for one in book.read_new()] == ["b"]
    chaos.ledger.append(str(book.path), b"\t0\t0\t0\t1\t.\n")
    assert [one.id for one in book.read_new()] == ["c"]


def test_a_line_that_its_writers_death_cut_short_counts_for_nothing(
    chaos: SimpleNamespace, tmp_path: Path
) -> None:
    """The kill storm broke off: the end of a line was missing."""
    book = chaos.ledger.Ledger(tmp_path / "ledger")
    for whole_until in range(1, 30):
        cut = "\nstart\tr-1\t100\t200\t1\t123456789\t.\n"[:whole_until]
        chaos.ledger.append(str(book.path), cut.encode())

        assert book.read() == list(book.read("acknowledged"))

        book.acknowledge([f"r-{whole_until}"])

    assert [one.id for one in book.read()] == [f"r-{number}" for number in range(1, 30)]


# -- The slopes of a soak --


def test_a_line_has_its_slope_and_no_interval(chaos: SimpleNamespace) -> None:
    found = chaos.slopes.slope([0.0, 1800.0, 3600.0], [10.0, 15.0, 20.0])

    assert found.per_hour == pytest.approx(10)
    assert (found.low, found.high) == pytest.approx((10, 10))
    assert found.mean == 15
    assert found.grows


def test_noise_about_a_level_does_not_grow(chaos: SimpleNamespace) -> None:
    times = [float(one) for one in range(3600)]
    level = [100 + (7 * one % 11) - 5 for one in range(3600)]
    growing = [value + 20 * one / 3600 for one, value in enumerate(level)]

    assert not chaos.slopes.slope(times, level).grows
    found = chaos.slopes.slope(times, growing)
    assert found.grows
    assert found.low < 20 < found.high


def test_neighbours_that_resemble_one_another_widen_the_interval(chaos: SimpleNamespace) -> None:
    times = [float(one) for one in range(400)]
    waves = [float(one // 50 % 2) for one in range(400)]  # half a minute up, half a minute down
    noise = [float(one % 2) for one in range(400)]

    def width(values: list[float]) -> float:
        found = chaos.slopes.slope(times, values)
        return float(found.high - found.low)

    assert width(waves) > 3 * width(noise)


def test_a_key_belongs_to_a_run_or_to_nobody(chaos: SimpleNamespace) -> None:
    of_run_1 = [
        keys.run("soak-1"), keys.run_outcomes("soak-1"), keys.job("soak-1-0"),
        keys.result("soak-1-19"), keys.in_progress("soak-1-3"), keys.dead("soak-1-4"),
    ]  # fmt: skip
    shared = [keys.IO_QUEUE, keys.RUNS, keys.counters(keys.CPU_QUEUE), keys.worker("io-h-1-ab")]
    left = [keys.retry("soak-11-0"), keys.result("soak-2-1")]  # 11 begins as 1 does

    found = chaos.samples.nobodys([one.encode() for one in of_run_1 + shared + left], ["soak-1"])

    assert found == [one.encode() for one in shared + left]


def test_each_kind_of_job_comes_as_often_as_the_others(chaos: SimpleNamespace) -> None:
    fed = chaos.samples.shuffled("abc", random.Random(1))
    rounds = ["".join(next(fed) for _ in range(3)) for _ in range(20)]

    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len(set(rounds)) > 1


async def test_a_run_is_judged_once_though_the_server_goes_away_as_it_is_deleted(
    chaos: SimpleNamespace, tmp_path: Path, broker: str
) -> None:
    """The second time the ledger had nothing new of it, and its jobs were done without effects."""
    client = connect(broker)
    lab = SimpleNamespace(
        client=client, random=random.Random(1), ledger=chaos.ledger.Ledger(tmp_path / "ledger")
    )
    recorded = [record(chaos, f"soak-{run}-0", at=1.0) for run in range(30)]
    gone: list[str] = []

    async def records_of(runs: list[str]) -> list[Any]:
        return [one for one in recorded if one.id.rpartition("-")[0] in runs]

    async def waiting() -> set[str]:
        return set()

    lab.records_of, lab.waiting, lab.forget = records_of, waiting, gone.extend
    soak = chaos.soak.Soak(lab, 60.0, print)
    for one in recorded:
        written = chaos.ledger._line("effect", one.id, one.worker, 1, 1, 1)
        chaos.ledger.append(str(lab.ledger.path), written.encode())
        soak._open[one.id.rpartition("-")[0]] = (0.0, [one.id])
    away = connect("unix:///nowhere")
    lab.client = away

    with pytest.raises(redis.exceptions.ConnectionError):
        await soak._close_old(0.1)
    lab.client = client
    await soak._close_old(0)

    assert soak._broken == []
    assert soak._totals["jobs"] == 30
    assert sorted(gone) == sorted(f"soak-{run}" for run in range(30))
    await away.aclose()
    await client.aclose()


def test_samples_are_kept_as_the_means_of_minutes(chaos: SimpleNamespace) -> None:
    assert chaos.samples.by_minute([(1, 2.0), (59, 3.0), (60, 7.0), (185, 1.0)]) == [2.5, 7, 1]


# -- The proxy --


@pytest.mark.parametrize(("where", "arrived"), [("before", 0), ("after", 1)])
async def test_the_proxy_cuts_a_script_before_or_after_it_ran(
    chaos: SimpleNamespace, tmp_path: Path, where: str, arrived: int
) -> None:
    server = chaos.valkey.Valkey(tmp_path)
    await server.start()
    direct = connect(server.tcp_url)
    try:
        async with chaos.proxy.Proxy(server.port) as proxy:
            client = connect(proxy.url)
            # The server knows the script then, and is not asked for it twice.
            await Store(direct).enqueue_many("other", [NewJob("other", wire.dumps({}))])

            async def cut() -> bool:
                return True

            proxy.on("enqueue", where, cut)
            with pytest.raises(redis.exceptions.ConnectionError):
                await Store(client).enqueue_many("arq:queue", [NewJob("a-1", wire.dumps({}))])
            assert await direct.zcard("arq:queue") == arrived
            assert proxy.cut == 1

            proxy.leave_alone()
            await Store(client).enqueue_many("arq:queue", [NewJob("a-1", wire.dumps({}))])
            assert await direct.zcard("arq:queue") == 1
            await client.aclose()
    finally:
        await direct.aclose()
        await server.remove()


async def test_what_the_proxy_swallows_is_never_answered(
    chaos: SimpleNamespace, tmp_path: Path
) -> None:
    server = chaos.valkey.Valkey(tmp_path)
    await server.start()
    try:
        async with chaos.proxy.Proxy(server.port) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(b"PING\r\n")
            assert await reader.readline() == b"+PONG\r\n"

            assert proxy.swallow() == 1
            writer.write(b"PING\r\n")
            other_reader, other = await asyncio.open_connection("127.0.0.1", proxy.port)
            other.write(b"PING\r\n")
            assert await other_reader.readline() == b"+PONG\r\n"
            # The other's answer came later, so this one's would be here.
            reader.feed_eof()
            assert await reader.read() == b""
            for one in (writer, other):
                one.close()
    finally:
        await server.remove()


# -- The fleet --


def test_what_our_workers_counters_have_is_not_counted_from_their_logs_again(
    chaos: SimpleNamespace, tmp_path: Path
) -> None:
    """The table had such attempts twice."""
    fleet = chaos.fleet.Fleet(tmp_path, "", tmp_path / "ledger")
    told = "WARNING twolane.worker: 2 outcomes refused: their leases had ended (a-1 …)\n"
    fleet.workers = [SimpleNamespace(lane=lane, log=told) for lane in ("io", "cpu", "arq")]

    assert fleet.refused() == 2


# -- The table and the page --


def row(chaos: SimpleNamespace, **fields: Any) -> Any:
    return chaos.judge.Row("a-fault", "jobs", "what is done", jobs=1000, **fields)


def test_the_page_gets_the_table_between_its_markers(
    chaos: SimpleNamespace, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{chaos.docs.BEGIN}\nold\n{chaos.docs.END}\nafter\n")

    chaos.docs.write(page, [row(chaos, recovery_p50=0.5, recovery_p99=1.25)], 100, seed=7)

    text = page.read_text()
    assert "| `a-fault` | what is done | 1,000 | 0 | 0 | 0 | 0 | 0 | 0.50 / 1.25 s | 0 |" in text
    assert "--seed 7" in text
    assert "every promise kept" in text
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")


def test_a_page_without_markers_is_left_alone(chaos: SimpleNamespace, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing of the kind")

    with pytest.raises(ValueError, match="has no lines"):
        chaos.docs.write(page, [row(chaos)], 1, seed=1)


def test_the_list_has_each_fault_with_its_promise(chaos: SimpleNamespace) -> None:
    done = script("list", "--json")

    listed = {one["name"]: one for one in json.loads(done.stdout)}
    assert set(listed) == set(chaos.catalog.ALL)
    areas = [one["area"] for one in listed.values()]
    assert areas == sorted(areas, key=areas.index), "an area is there twice"
    assert all(one["promise"] for one in listed.values())


def test_an_unknown_fault_is_a_usage_error() -> None:
    done = script("run", "no-such-fault")

    assert done.returncode == 2
    assert "scripts/chaos list" in done.stderr


@pytest.mark.parametrize(("options", "code"), [((), 0), (("--need-all",), 1)])
def test_a_fault_that_is_left_out_is_named_and_where_all_are_needed_breaks_its_promise(
    options: tuple[str, ...], code: int, tmp_path: Path
) -> None:
    done = script("run", "server-clock", "--json", *options, PATH=str(tmp_path))

    assert done.returncode == code
    (row,) = json.loads(done.stdout)
    assert row["skipped"] == "it needs faketime (Debian: apt-get install faketime)"
    assert row["broken"] == ([row["skipped"]] if code else [])


# -- One fault, for real, kept and broken --


@pytest.mark.slow
def test_a_kept_promise_is_exit_code_0_and_its_figures_are_those_of_the_run() -> None:
    began = time.monotonic()
    done = script("run", "sigkill-before-acknowledgement", "--seed", "3", "--json")
    elapsed = time.monotonic() - began

    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    assert (found["jobs"], found["lost"], found["twice"], found["duplicates"]) == (10, 0, 0, 10)
    assert 0 < found["recovery_p50"] <= found["recovery_p99"] < elapsed


@pytest.mark.slow
async def test_a_broken_promise_is_named_and_what_the_workers_said_is_kept(
    chaos: SimpleNamespace, tmp_path: Path
) -> None:
    async def inject(lab: Any) -> None:
        await lab.fleet.start("io")
        (first,) = await lab.enqueue("nap", 1, seconds=0.01)
        await lab.wait_recorded(1)
        run = first.rpartition("-")[0]
        ((_, fields),) = await lab.client.xrange(f"twolane:run:{run}:outcomes", count=1)
        await lab.client.xadd(f"twolane:run:{run}:outcomes", fields)  # once more
        lab.acknowledged(["never-0000000"])
        # Recorded, and put into the queue again; and recorded without having run.
        await lab.client.zadd(keys.IO_QUEUE, {first: 9e12})
        lines = [one for one in lab.ledger.path.read_text().splitlines() if "effect" not in one]
        lab.ledger.path.write_text("\n".join(lines))

    fault = chaos.catalog.Fault("broken", "jobs", "what", "none", inject, deadline=0.1)
    found = await chaos.lab.run(fault, 1, tmp_path)

    assert (found.jobs, found.lost, found.twice) == (2, 1, 1)
    assert [text.partition(" (")[0] for text in found.broken] == [
        "1 lost", "1 recorded more than once", "1 recorded, and in a queue still",
        "1 done without an effect of their own",
    ]  # fmt: skip
    (said,) = found.logs
    assert said.startswith("io worker ")
    assert "slots, " in said
    kept = {one.name for one in (tmp_path / "broken-1").iterdir()}
    assert kept == {"ledger", "valkey.log", "worker-0.log"}


def test_the_excerpt_of_a_log_begins_just_before_its_first_traceback(
    chaos: SimpleNamespace, tmp_path: Path
) -> None:
    log = tmp_path / "worker.log"
    worker = chaos.fleet.Worker("io", ["--no-such-option"], "", log, dict(os.environ))
    worker.end()
    lines = [*map(str, range(50)), "Traceback (most recent call last):", "  File", "KeyError: 1"]
    log.write_text("\n".join(lines))

    assert worker.excerpt().splitlines()[1:] == lines[47:]

    log.write_text("\n".join(lines[:50]))
    assert worker.excerpt().splitlines()[1:] == lines[10:50]


@pytest.mark.slow
async def test_what_failed_beside_a_fault_is_told_with_it(chaos: SimpleNamespace) -> None:
    async def fail() -> None:
        raise KeyError("beside")

    async def inject(lab: Any) -> None:
        lab.go(fail())
        lab.go(asyncio.Event().wait())
        await lab.wait_recorded(1, 0.1)

    found = await chaos.lab.run(chaos.catalog.Fault("broken", "jobs", "what", "none", inject), 1)

    assert found.broken == ["TimeoutError: not within 0.1 s: 1 outcomes", "KeyError: 'beside'"]


@pytest.mark.slow
async def test_a_row_that_waited_in_vain_is_judged_as_far_as_it_came(
    chaos: SimpleNamespace,
) -> None:
    """Its figures were all 0, as if nobody had been hurt."""

    async def inject(lab: Any) -> None:
        await lab.fleet.start("io")
        await lab.enqueue("nap", 2, seconds=0.01)
        await lab.wait_recorded(2)
        await lab.enqueue("hold", 1, go=str(lab.directory / "go"))
        await lab.wait_entries("start", 3)
        await lab.enqueue("compute", 1, seconds=0.0)  # no worker of that lane is there
        lab.acknowledged(["never-0000000"])
        await lab.wait_recorded(5, 0.1)

    fault = chaos.catalog.Fault("broken", "jobs", "what", "none", inject, recovery=1.0)
    found = await chaos.lab.run(fault, 1)

    assert (found.jobs, found.lost, found.unsettled) == (5, 1, 2)
    assert (found.twice, found.stale, found.duplicates, found.fenced) == (0, 0, 0, 0)
    assert [text.partition(" (")[0] for text in found.broken] == [
        "TimeoutError: not within 0.1 s: 5 outcomes", "1 lost", "2 unsettled",
    ]  # fmt: skip


@pytest.mark.slow
async def test_a_row_that_lost_its_server_says_what_nobody_could_look_at(
    chaos: SimpleNamespace,
) -> None:
    async def inject(lab: Any) -> None:
        await lab.enqueue("nap", 3, seconds=0.01)
        await lab.server.kill()
        await asyncio.Event().wait()

    fault = chaos.catalog.Fault("broken", "jobs", "what", "none", inject, limit=1.0)
    found = await chaos.lab.run(fault, 1)

    assert (found.jobs, found.lost, found.unsettled, found.duplicates) == (3, None, None, 0)
    assert found.broken[0] == "not over within 1 s"
    assert found.broken[1].startswith("not judged: ConnectionError")
    assert chaos.table.cells(found) == ("broken", "3", "?", "?", "?", "?", "0", "", "?")


# -- A fault that did nothing: its row must not be kept --


async def nothing(*_: Any, **__: Any) -> int:
    return 0


async def none(*_: Any, **__: Any) -> list[str]:
    return []


def no_fault(result: Any) -> Any:
    return lambda *_, **__: result


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "thing", "attribute", "instead", "told"),
    [
        ("scripts-flushed", Redis, "script_flush", nothing, "times only"),
        ("maxmemory", Redis, "config_set", nothing, "enqueueing did not fail"),
        ("leases-deleted", Redis, "delete", nothing, "0 leases were there"),
        ("payloads-deleted", Redis, "delete", nothing, "0 payloads were there"),
        ("half-open", "proxy.Proxy", "swallow", no_fault(0), "only 0 connections were there"),
        ("latency", random.Random, "uniform", no_fault(0.0), "only 0 pieces of requests were"),
        ("two-versions", dead, "ids", none, "the older one came to none"),
        ("killed-in-a-result", "faults.pool", "_kill", no_fault(False), "the process had ended"),
        ("cancel-races-end", "faults.jobs", "cancel_jobs", nothing, "no race: 400 done"),
        ("server-clock", "faults.server", "faketime", no_fault({}), "the server's clock"),
        ("clock-jump", "faults.workers", "faketime", no_fault({}), "clock did not jump"),
        ("pool-parent-sigkill", "fleet.Worker", "family", no_fault([]), "processes are not known"),
    ],
    ids=lambda value: value if isinstance(value, str) and "-" in value else "",
)  # fmt: skip
async def test_a_row_whose_fault_did_nothing_is_broken(
    chaos: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    thing: Any,
    attribute: str,
    instead: Any,
    told: str,
) -> None:
    def check(_: Any, holds: bool, otherwise: str) -> None:
        assert holds, otherwise

    if isinstance(thing, str):
        # Imported with the harness: there is no such module without its path.
        thing = operator.attrgetter(thing)(sys.modules["chaoslab"])
    monkeypatch.setattr(thing, attribute, instead)
    monkeypatch.setattr(chaos.lab.Lab, "check", check)  # the rest of it would take its time

    row = await chaos.lab.run(chaos.catalog.ALL[name], 1)

    assert told in row.broken[0], row.broken


async def test_a_soak_that_fails_tells_what_it_had_measured(
    chaos: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # After 38 minutes of an hour a process ended as it was looked at, and all figures were gone.
    soak = chaos.soak.Soak

    async def inject(self: Any) -> None:
        while not self._open:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        raise psutil.ZombieProcess(1)

    monkeypatch.setattr(soak, "_inject", inject)

    report = await chaos.soak.run(60.0, 1, print)

    assert report.jobs > 0
    assert [one for one in report.broken if "by psutil.ZombieProcess" in one] == report.broken
    assert "in inject" in capsys.readouterr().err


def test_a_process_that_has_just_ended_is_of_no_pool(chaos: SimpleNamespace) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import multiprocessing"])
    try:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # nobody has buried it yet
        assert not chaos.fleet.is_of_pool(psutil.Process(process.pid))
    finally:
        process.wait()
