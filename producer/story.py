"""Says in plain English what a run showed, from its numbers alone."""

from __future__ import annotations

from collections.abc import Sequence

from producer.comparison import Row
from twolane.commandline import counted

# Below this share of a core a job waits, above it computes; between the two it does both.
WAITS_BELOW = 0.3
COMPUTES_ABOVE = 0.7


def tell(rows: Sequence[Row], slots: dict[str, int]) -> list[str]:
    """One sentence a lane; ``slots`` is how many jobs of a lane could run at once."""
    lanes = {row.lane: row for row in rows if not row.job}
    for row in rows:
        lanes.setdefault(row.lane, row)
    return [
        _sentence(lane, lanes[lane], slots.get(lane, 0)) for lane in ("io", "cpu") if lane in lanes
    ]


def _sentence(lane: str, row: Row, slots: int) -> str:
    if not row.run_total:
        return f"None of the {lane.upper()} lane's {counted(row.jobs, 'job')} ran."
    share = row.cpu_seconds / row.run_total
    place = "one event loop" if lane == "io" else f"{slots} process{'es' if slots != 1 else ''}"
    begin = (
        f"The {lane.upper()} lane's {counted(row.jobs, 'job')} ran for {row.run_total:.1f} s in all"
    )
    if share < WAITS_BELOW:
        spent = f"and computed for {row.cpu_seconds:.1f} s of it: they waited"
    elif share > COMPUTES_ABOVE:
        spent = f"and computed for {row.cpu_seconds:.1f} s of it: they computed"
    elif lane == "cpu":
        spent = (
            f"and computed for {row.cpu_seconds:.1f} s of it: the rest they waited, for a core or "
            "for something else"
        )
    else:
        spent = f"and computed for {row.cpu_seconds:.1f} s of it: some of both"
    return f"{begin} {spent}; on {place} they took {row.wall:.1f} s, {_gain(row, lane, slots)}."


def _gain(row: Row, lane: str, slots: int) -> str:
    if lane == "cpu" and row.cpu_seconds / row.run_total >= WAITS_BELOW:
        # Against the CPU time: a run time grows while jobs share a core, and would flatter us.
        speedup = row.cpu_seconds / row.wall
        if speedup < 1.2:
            return "no faster than one at a time on a free core"
        return (
            f"{speedup:.1f} times faster than one at a time on a free core: "
            "computing is bounded by cores"
        )
    if row.speedup < 1.2:
        return "no faster than one at a time"
    gain = f"{row.speedup:.1f} times faster than one at a time"
    return f"{gain}, with {row.concurrency:.0f} at once: waiting is cheap to overlap"
