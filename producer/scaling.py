"""What a sweep says: the curve, how many workers are worth having, and what limits them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import mean, median
from typing import Any, Final

import msgspec

from producer.load_meter import OURSELVES, WORKERS, Busy
from producer.sweep import Point
from producer.usl import Fit, Verdict, fit
from twolane.keys import Lane

# From this share on a resource is said to be at its limit. Arbitrary: a core that is busy for 85 %
# of the time already has queues before it.
AT_LIMIT: Final = 0.85
# So many times the run time of the fewest workers, and what jobs wait for is overrun. Arbitrary.
SLOWED: Final = 1.25
SLIGHT: Final = 1e-3  # an α that may be as small as none; arbitrary
MOST_JOBS_FAILED: Final = 0.01
NOT_QUIET: Final = 0.25  # cores in use by others, which change what was measured; arbitrary
LEAST_JOBS: Final = 50


class Line(msgspec.Struct):
    """One worker count: the median of its rounds, and the means of what was busy.

    ``speedup`` and ``efficiency`` are over the smallest count.
    """

    workers: int
    slots: int
    throughput: float
    lowest: float
    highest: float
    speedup: float
    efficiency: float
    busy_slots: float
    wait_p50: float
    wait_p95: float
    run_p50: float
    run_p95: float
    run_p99: float
    machine: float
    broker: float
    others: dict[str, float]


class Limit(msgspec.Struct):
    """How near its limit something was; ``name`` as a sentence has it."""

    name: str
    share: float


def lines(points: Sequence[Point]) -> list[Line]:
    """One line for each worker count, the smallest first."""
    by_count: dict[int, list[Point]] = defaultdict(list)
    for point in points:
        by_count[point.workers].append(point)
    first = min(by_count)
    base = median(point.throughput for point in by_count[first])
    return [_line(count, by_count[count], first, base) for count in sorted(by_count)]


def _line(count: int, found: list[Point], first: int, base: float) -> Line:
    rates = [point.throughput for point in found]
    throughput = median(rates)
    return Line(
        workers=count,
        slots=found[0].slots,
        throughput=throughput,
        lowest=min(rates),
        highest=max(rates),
        speedup=throughput / base,
        efficiency=throughput / base / (count / first),
        busy_slots=mean(point.busy_slots for point in found),
        wait_p50=median(point.wait.p50 for point in found),
        wait_p95=median(point.wait.p95 for point in found),
        run_p50=median(point.run.p50 for point in found),
        run_p95=median(point.run.p95 for point in found),
        run_p99=median(point.run.p99 for point in found),
        machine=mean(point.busy.machine for point in found),
        broker=mean(point.busy.broker for point in found),
        others={
            name: mean(point.busy.others[name] for point in found) for name in found[0].busy.others
        },
    )


def fitted(points: Sequence[Point]) -> Fit | None:
    """The law fitted to every measurement; None where they are too few for it."""
    try:
        return fit([point.workers for point in points], [point.throughput for point in points])
    except ValueError:
        return None


def limits(points: Sequence[Point], lane: Lane, workers: int) -> list[Limit]:
    """How near its limit everything was with so many workers, the nearest first."""
    found = [point for point in points if point.workers == workers]
    shares: dict[str, list[float]] = defaultdict(list)
    for point in found:
        for name, share in _shares(point, lane).items():
            shares[name].append(share)
    made = [Limit(name, mean(values)) for name, values in shares.items()]
    return sorted(made, key=lambda one: -one.share)


def _shares(point: Point, lane: Lane) -> dict[str, float]:
    busy = point.busy
    shares = {
        MACHINE: _machine(busy),
        "Valkey, which runs commands in one thread": busy.broker,
    }
    if "target" in busy.others:
        shares["the web service, which has one process"] = busy.others["target"]
    if OURSELVES in busy.others:
        shares["the producer, which has one process"] = busy.others[OURSELVES]
    if lane == "io" and WORKERS in busy.others:
        shares["the workers' event loops, each in one thread"] = (
            busy.others[WORKERS] / point.workers
        )
    return shares


MACHINE: Final = "this machine's CPU"


def _machine(busy: Busy) -> float:
    if not busy.is_whole:
        return busy.machine / busy.cores
    ours = busy.broker + sum(busy.others.values())
    return max(busy.machine / busy.cores, ours / busy.usable_cores)


def _foreign(busy: Busy) -> float:
    """Cores that none of those that are watched used; 0 where not all of them are."""
    if not busy.is_whole:
        return 0.0
    return max(0.0, busy.machine - busy.broker - sum(busy.others.values()))


def title(found: Fit | None, points: Sequence[Point], lane: Lane) -> str:
    """The finding in a line, as a chart's title has it."""
    if found is None:
        return f"{lane.upper()} lane: too few measurements for a curve"
    count = found.recommended.count
    best = found.predict(count).throughput
    return f"{_workers(count)} {_are(count)} worth having: {_rate(best)} on the {lane.upper()} lane"


def tell(found: Fit | None, points: Sequence[Point], lane: Lane) -> list[str]:
    """What was seen, in sentences made from the numbers."""
    largest = max(point.workers for point in points)
    said = [] if found is None else [_recommended(found), _verdict(found), _next(found)]
    if found is None:
        said.append(
            "A curve needs four measurements at three different counts: give more --workers."
        )
    said.append(_limit(points, lane, largest, found))
    if found is not None:
        said += found.warnings
    said += _doubts(points)
    return said


def _recommended(found: Fit) -> str:
    one = found.recommended
    interval = f" (95 % interval {one.low}–{one.high})" if one.low != one.high else ""
    predicted = found.predict(one.count)
    return (
        f"Run {_workers(one.count)}{interval}: the fewest that reach 95 % of the best throughput "
        f"predicted for {found.smallest:g} to {found.largest:g}; "
        f"the curve has {_rate(predicted.throughput)} there."
    )


def _verdict(found: Fit) -> str:
    largest = f"{found.largest:g}"
    efficiency = found.predict(found.largest).throughput / (
        found.largest * found.predict(1).throughput
    )
    if found.verdict is Verdict.LINEAR:
        said = f"Up to {largest} workers the throughput grows in proportion (linear)"
    elif found.verdict is Verdict.CONTENTION and found.alpha.low < SLIGHT:
        said = (
            f"Each of {largest} workers does {efficiency:.0%} of what one does alone; whether they "
            f"queue for something shared (α {found.alpha.low:.1%}–{found.alpha.high:.1%}) or cost "
            f"each other (β {found.beta.low:.2g}–{found.beta.high:.2g}) the fit does not tell"
        )
    elif found.verdict is Verdict.CONTENTION:
        said = (
            f"Contention-limited: {found.alpha.value:.1%} of the work queues for something that "
            f"all workers share (α, 95 % interval {found.alpha.low:.1%}–{found.alpha.high:.1%}); "
            f"each of {largest} workers does {efficiency:.0%} of what one does alone"
        )
    else:
        said = (
            f"Coherency-limited: each two workers cost each other (β = {found.beta.value:.2g}); "
            f"each of {largest} workers does {efficiency:.0%} of what one does alone"
        )
    if found.peak is None:
        return f"{said}. No peak is in sight."
    beyond = ", an extrapolation" if found.extrapolates(found.peak.value) else ""
    return f"{said}. The peak is at {found.peak.value:.1f} workers{beyond}."


def _next(found: Fit) -> str:
    count = found.recommended.count
    if count < found.largest:
        gain = found.gain(count, min(count + 1, found.largest))
        where = f"the next worker after {count}"
    else:
        gain = found.gain(found.largest, found.largest + 1)
        where = f"one more than {found.largest:g}"
    sure = ", extrapolated beyond what was measured" if gain.extrapolated else ""
    sign = "+" if gain.added >= 0 else "−"
    return (
        f"What {where} adds: {sign}{abs(gain.share):.0%} "
        f"({gain.low:+,.3g} to {gain.high:+,.3g} jobs/s{sure})."
    )


def _limit(points: Sequence[Point], lane: Lane, count: int, found: Fit | None) -> str:
    here = [point for point in points if point.workers == count]
    slots_busy = mean(point.busy_slots / point.slots for point in here if point.slots)
    found_limits = limits(points, lane, count)
    reached = [one for one in found_limits if one.share >= AT_LIMIT]
    if reached:
        names = " and ".join(f"{one.name} ({one.share:.0%} busy)" for one in reached[:2])
        return f"With {_workers(count)} the limit was {names}."
    nearest = found_limits[0]
    rest = f"the nearest to its limit was {nearest.name}, {nearest.share:.0%} busy"
    grown = _grown(points)
    if grown >= SLOWED:
        return (
            f"With {_workers(count)} a job ran {grown:.1f} times as long as with the fewest, "
            "though nothing here was at its limit: what the jobs wait for (the web service, the "
            f"database) was; {rest}."
        )
    if slots_busy >= AT_LIMIT:
        return (
            f"With {_workers(count)} nothing but the slots was at its limit "
            f"({slots_busy:.0%} busy): more workers will do more; {rest}."
        )
    return (
        f"With {_workers(count)} {slots_busy:.0%} of the slots were busy, and nothing that is "
        f"watched was at its limit; {rest}."
    )


def _grown(points: Sequence[Point]) -> float:
    """How much longer a job ran at the largest count than at the smallest."""
    found = lines(points)
    return found[-1].run_p50 / max(found[0].run_p50, 1e-9)


def _doubts(points: Sequence[Point]) -> list[str]:
    said = []
    starved = sorted({point.workers for point in points if not point.lowest_backlog})
    if starved:
        which = ", ".join(map(str, starved))
        noun = "worker" if starved == [1] else "workers"
        said.append(
            f"The backlog was empty at a look with {which} {noun}: "
            "they may have had nothing to do, so their throughput is a lower bound."
        )
    foreign = mean(_foreign(point.busy) for point in points)
    if foreign >= NOT_QUIET:
        largest = max(point.workers for point in points)
        share = mean(_machine(point.busy) for point in points if point.workers == largest)
        matters = ": without that, more workers may be worth having" if share >= AT_LIMIT else ""
        said.append(
            f"Something else on this machine used {foreign:.1f} of its {points[0].busy.cores} "
            f"cores meanwhile{matters}."
        )
    failed = sum(point.failed for point in points)
    jobs = sum(point.jobs for point in points)
    if failed > MOST_JOBS_FAILED * jobs:
        said.append(f"{failed:,} of {jobs:,} jobs failed: the figures are of what failed, too.")
    few = min(point.jobs for point in points)
    if few < LEAST_JOBS:
        said.append(
            f"A window had as few as {few} jobs, which alone makes its throughput uncertain by "
            f"{1 / max(few, 1):.0%}: give a longer --window."
        )
    return said


def as_data(found: Fit | None) -> dict[str, Any] | None:
    """The fit as JSON has it."""
    if found is None:
        return None

    def estimate(one: Any) -> Any:
        return None if one is None else {
            "value": one.value, "low": one.low, "high": one.high, "error": one.error
        }  # fmt: skip

    counts = range(max(1, int(found.smallest)), int(found.largest) + 1)
    return {
        "alpha": estimate(found.alpha), "beta": estimate(found.beta),
        "gamma": estimate(found.gamma), "verdict": str(found.verdict),
        "peak": estimate(found.peak), "peak_throughput": estimate(found.peak_throughput),
        "recommended": {
            "count": found.recommended.count, "low": found.recommended.low,
            "high": found.recommended.high,
        },
        "residual_error": found.residual_error,
        "amdahl": {"alpha": found.amdahl.alpha, "gamma": found.amdahl.gamma,
                   "p_value": found.amdahl.p_value},
        "warnings": list(found.warnings),
        "curve": [
            {"workers": one.count, "throughput": one.throughput, "low": one.low, "high": one.high}
            for one in found.band(list(counts))
        ],
    }  # fmt: skip


def _workers(count: int) -> str:
    return f"{count} worker{'s' if count != 1 else ''}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _rate(value: float) -> str:
    return f"{value:,.{0 if value >= 100 else 1}f} jobs/s"
