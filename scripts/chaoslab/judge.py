"""Compares the ledger with what the broker has recorded, job by job."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from chaoslab.ledger import Entry
from twolane.outcome import Outcome


class Record(NamedTuple):
    """An outcome on a run's stream, and the server's time at which it was put there, ms."""

    at_ms: int
    outcome: Outcome

    @property
    def id(self) -> str:
        return self.outcome.id

    @property
    def status(self) -> str:
        """``done``, ``cancelled``, or ``failed`` with the class of the error."""
        if self.outcome.success:
            return "done"
        if self.outcome.cancelled:
            return "cancelled"
        return f"failed {self.outcome.error.type if self.outcome.error else '?'}"

    @property
    def worker(self) -> int:
        """The pid of the worker that recorded it, 0 where none did."""
        name = self.outcome.worker.rsplit("-", 2)
        return int(name[1]) if len(name) == 3 else 0


class Row(msgspec.Struct):
    """What one fault came to. Recovery is in seconds; ``broken`` names each broken promise.

    ``logs`` has, where a promise was broken, what the workers said: a traceback, or the last lines.
    A figure is None where nobody could look: the server was gone.
    """

    name: str
    area: str
    what: str
    jobs: int = 0
    lost: int | None = 0
    twice: int | None = 0
    stale: int | None = 0
    unsettled: int | None = 0
    duplicates: int = 0
    recovery_p50: float | None = None
    recovery_p99: float | None = None
    fenced: int | None = 0
    seconds: float = 0.0
    note: str = ""
    keeps_promise: bool = True
    broken: list[str] = []
    logs: list[str] = []
    skipped: str = ""


@dataclass
class Case:
    """All that a fault left behind.

    ``expected`` has each acknowledged id with the status that it must come to (``""``: any),
    ``lives`` how often it may be recorded where that is not once. ``waiting`` are the ids that are
    in a queue or under lease still. ``forgotten`` were deleted by order.
    """

    expected: Mapping[str, str]
    entries: Sequence[Entry]
    records: Sequence[Record]
    waiting: set[str] = field(default_factory=set)
    lives: Mapping[str, int] = field(default_factory=dict)
    forgotten: set[str] = field(default_factory=set)
    # Wall clock less monotonic clock, ns.
    wall_ns: int = field(default_factory=lambda: time.time_ns() - time.monotonic_ns())


def percentile(values: Iterable[float], share: float) -> float:
    """The nearest-rank percentile: a value that was seen."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * share // 1).__int__() - 1)]


def _short(case: Case) -> set[str]:
    """Acknowledged, and recorded less often than they lived."""
    counts = Counter(one.id for one in case.records)
    short = {one for one in case.expected if counts[one] < case.lives.get(one, 1)}
    return short - case.forgotten


def lost(case: Case) -> list[str]:
    """Acknowledged, not recorded, and nowhere in the queues."""
    return sorted(_short(case) - case.waiting)


def unsettled(case: Case) -> list[str]:
    """Not recorded, and still in a queue or under lease."""
    return sorted(_short(case) & case.waiting)


def left(case: Case) -> list[str]:
    """Recorded as often as they lived, and in a queue still: they would run again."""
    return sorted(set(case.expected) & case.waiting - _short(case) - case.forgotten)


def twice(case: Case) -> list[str]:
    """Recorded more often than they lived."""
    counts = Counter(one.id for one in case.records)
    return sorted(one for one, count in counts.items() if count > case.lives.get(one, 1))


def stale(case: Case) -> list[str]:
    """Recorded by an attempt that a later one had already replaced.

    A later attempt can start only when the earlier one's lease has ended. So where an attempt's
    outcome was recorded after another attempt's start that itself came after the first one's, the
    fence has let it through. Attempts are told apart by worker and try; on the CPU lane, whose jobs
    do not know their try, two of one worker are not.
    """
    starts = defaultdict(list)
    for one in case.entries:
        if one.kind == "start":
            starts[one.id].append(one)
    found = []
    for record in case.records:
        recorded_ns = record.at_ms * 1_000_000 - case.wall_ns
        own = [
            one
            for one in starts[record.id]
            if one.worker == record.worker and one.try_ in (0, record.outcome.try_)
        ]
        if not own:
            continue
        began_ns = max(
            (one.at_ns for one in own if one.at_ns <= recorded_ns + 1_000_000), default=0
        )
        later = [
            one
            for one in starts[record.id]
            if one not in own and began_ns < one.at_ns < recorded_ns - 1_000_000
        ]
        if began_ns and later:
            found.append(record.id)
    return sorted(found)


def hollow(case: Case) -> list[str]:
    """Recorded as done by an attempt that never had its effect."""
    had = {(one.id, one.worker, one.try_) for one in case.entries if one.kind == "effect"}
    return sorted(
        {
            one.id
            for one in case.records
            if one.status == "done"
            and had.isdisjoint((one.id, one.worker, try_) for try_ in (0, one.outcome.try_))
        }
    )


def duplicates(case: Case) -> int:
    """How often an effect was had again."""
    effects = Counter(one.id for one in case.entries if one.kind == "effect")
    return sum(count - 1 for one, count in effects.items() if count > case.lives.get(one, 1))


def wrong(case: Case) -> list[str]:
    """Which outcomes are not the expected ones, in words."""
    last = {one.id: one for one in case.records}
    unexpected: Counter[tuple[str, str]] = Counter()
    for job_id, expected in case.expected.items():
        found = last.get(job_id)
        if found is not None and expected and found.status != expected:
            unexpected[expected, found.status] += 1
    return [
        f"{count} jobs {status}, expected {expected}"
        for (expected, status), count in unexpected.items()
    ]


def recoveries(entries: Sequence[Entry], since_ns: int) -> list[float]:
    """For each job that was running then: seconds until its next start."""
    running: dict[str, Entry] = {}
    again: dict[str, float] = {}
    for one in sorted(entries, key=lambda entry: entry.at_ns):
        if one.at_ns <= since_ns:
            if one.kind == "start":
                running[one.id] = one
            elif one.kind in ("effect", "cancelled"):
                running.pop(one.id, None)
        elif one.kind == "start" and one.id in running and one.id not in again:
            again[one.id] = (one.at_ns - since_ns) / 1e9
    return list(again.values())


# What must not be, in words, and the look for it.
CRIMES: Final[dict[str, Callable[[Case], list[str]]]] = {
    "lost": lost,
    "recorded more than once": twice,
    "stale": stale,
    "unsettled": unsettled,
    "recorded, and in a queue still": left,
    "done without an effect of their own": hollow,
}
