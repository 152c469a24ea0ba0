"""Puts two runs side by side, and judges conditions on their ratios."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from producer.collect import Collected
from producer.ratios import Ratio, resampled
from producer.sweep import end_of
from twolane.commandline import counted
from twolane.errors import JobsFailed, TwolaneError, UsageError
from twolane.outcome import Outcome

# A run is cut into so many equal pieces of time, whose throughputs are resampled: the method of
# batch means (A. M. Law, *Simulation Modeling and Analysis*, 2014, ch. 9), as jobs that end one
# after the other are not independent. 20 is what that book has for few, long runs.
BATCHES: Final = 20

Array = npt.NDArray[np.float64]
ALL: Final = "all"
FAILED: Final = "failed"  # the one measure that is not of the jobs that succeeded alone
COMPARE: Final[dict[str, Callable[[float, float], bool]]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
CONDITION: Final = re.compile(
    r"\s*(?:(?P<scope>[^:<>]+?)\s*:)?\s*(?P<measure>[a-z0-9.]+)\s*(?P<sign><=|>=|<|>)\s*"
    r"(?P<number>\d+(?:\.\d*)?|\.\d+)\s*(?P<percent>%?)\s*"
)


def _quantile(share: float, sample: Array) -> Array:
    found: Array = np.quantile(sample, share, axis=-1)
    return found


def _mean(sample: Array) -> Array:
    found: Array = np.mean(sample, axis=-1)
    return found


def _rates(jobs: Sequence[Outcome]) -> list[float]:
    """Jobs a second in each piece of the time from the first due to the last ended."""
    begin = min(one.started_ms - one.wait_ms for one in jobs)
    ends = [end_of(one) - begin for one in jobs]
    width = max(max(ends), 1.0) / BATCHES
    counts = [0] * BATCHES
    for end in ends:
        counts[min(BATCHES - 1, int(end / width))] += 1
    return [count / width * 1000 for count in counts]


Sample = Callable[[Sequence[Outcome]], list[float]]
MEASURES: Final[dict[str, tuple[str, Sample, Callable[[Array], Array]]]] = {
    "throughput": ("jobs/s", _rates, _mean),
    **{
        f"{name}.p{cut}": ("s", sample, partial(_quantile, cut / 100))
        for name, sample in (
            ("wait", lambda jobs: [one.wait_ms / 1000 for one in jobs]),
            ("run", lambda jobs: [one.run_seconds for one in jobs]),
        )
        for cut in (50, 95, 99)
    },
    "cpu": ("s", lambda jobs: [one.cpu_seconds for one in jobs], _mean),
    FAILED: ("%", lambda jobs: [100.0 * (not one.success) for one in jobs], _mean),
}


class Line(msgspec.Struct):
    """One measure of the jobs of one scope in two runs; ``ratio`` is None where the first is 0."""

    scope: str
    measure: str
    unit: str
    first: float
    second: float
    ratio: Ratio | None


class Side(msgspec.Struct):
    """How one run's jobs ended; ``only`` are the jobs of which the other run has none."""

    name: str
    jobs: int
    succeeded: int
    failed: int
    cancelled: int
    to_go: int
    only: list[str] = []

    @classmethod
    def of(cls, one: Collected) -> Side:
        cancelled = sum(outcome.cancelled for outcome in one.outcomes)
        succeeded = sum(outcome.success for outcome in one.outcomes)
        jobs = max(one.run.total, len(one))
        failed = len(one) - succeeded - cancelled
        return cls(one.run.name, jobs, succeeded, failed, cancelled, jobs - len(one))

    def tell(self) -> str:
        """``3 of 30 jobs failed, 2 are to go``; empty where all succeeded."""
        parts = [
            f"{count:,} {word}"
            for count, word in (
                (self.failed, "failed"), (self.cancelled, "cancelled"), (self.to_go, "to go"),
            )
            if count
        ]  # fmt: skip
        return f"{', '.join(parts)} of {counted(self.jobs, 'job')}" if parts else ""


class Versus(msgspec.Struct):
    """Two runs by their names; ``scopes`` are all jobs, each lane, and each job.

    ``sides`` says how the jobs of the first and of the second ended.
    """

    first: str
    second: str
    sides: list[Side]
    scopes: list[str]
    lines: list[Line]

    def line(self, scope: str, measure: str) -> Line:
        """That measure of that scope.

        Raises:
            UsageError: the runs do not have the scope in common.
        """
        for one in self.lines:
            if (one.scope, one.measure) == (scope, measure):
                return one
        raise UsageError(
            f"--fail-if: {scope!r} is not in both runs; they share: {', '.join(self.scopes)}"
        )


def compare(first: Collected, second: Collected) -> Versus:
    """Every measure of what the two runs have in common, of the jobs that succeeded; and how many
    failed of those that succeeded or failed.

    Raises:
        UsageError: they have no job in common.
        JobsFailed: no job of one of them succeeded.
        TwolaneError: no job of one of them has ended.
    """
    sides = [Side.of(first), Side.of(second)]
    _check_measured(sides)
    ours, theirs = (_scopes(_succeeded(one)) for one in (first, second))
    scopes = [scope for scope in ours if scope in theirs]
    jobs = [_jobs(one) for one in (first, second)]
    sides[0].only, sides[1].only = sorted(jobs[0] - jobs[1]), sorted(jobs[1] - jobs[0])
    if not jobs[0] & jobs[1]:
        those = "; ".join(f"{side.name!r} has {', '.join(side.only)}" for side in sides)
        raise UsageError(f"the runs have no job in common: {those}; choose two of the same jobs")
    if len(jobs[0] | jobs[1]) == 1:
        scopes = [ALL]  # one job alone is the same as all
    all_ours, all_theirs = (_scopes(_ended(one)) for one in (first, second))
    lines = [
        _line(scope, measure, all_ours[scope], all_theirs[scope])
        if measure == FAILED
        else _line(scope, measure, ours[scope], theirs[scope])
        for scope in scopes
        for measure in MEASURES
    ]
    return Versus(first.run.name, second.run.name, sides, scopes, lines)


def tell(found: Versus) -> list[str]:
    """What of the two runs is not in the figures, or not alike."""
    said = [
        f"{side.name}: {ended}; the figures are of the {side.succeeded:,} that succeeded"
        for side in found.sides
        if (ended := side.tell())
    ]
    apart = [f"{side.name} alone has {', '.join(side.only)}" for side in found.sides if side.only]
    if apart:
        said.append(f"{', '.join(apart)}: the lines of {ALL!r} compare what is not alike")
    return said


def _check_measured(sides: Sequence[Side]) -> None:
    for side in sides:
        if side.succeeded:
            continue
        if side.failed or side.cancelled:
            raise JobsFailed(
                f"run {side.name!r} has no job that succeeded, and nothing to compare: "
                f"{side.tell()}; see why: `twolane runs show {side.name}`"
            )
        raise TwolaneError(
            f"run {side.name!r} has no job that ended yet: {side.tell() or 'it has none'}; "
            f"wait for it: `twolane runs show {side.name} --wait`"
        )


def _succeeded(one: Collected) -> list[Outcome]:
    return [outcome for outcome in one.outcomes if outcome.success]


def _ended(one: Collected) -> list[Outcome]:
    """Those that a person did not cancel: that is nothing against them."""
    return [outcome for outcome in one.outcomes if not outcome.cancelled]


def _jobs(one: Collected) -> set[str]:
    return {outcome.function for outcome in _succeeded(one)}


def _scopes(jobs: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """All of them, each lane's, each job's."""
    found = {ALL: list(jobs)}
    lanes = sorted({outcome.lane for outcome in jobs})
    for lane in lanes:
        if len(lanes) > 1:
            found[lane] = [outcome for outcome in jobs if outcome.lane == lane]
    for job in sorted({outcome.function for outcome in jobs}):
        found.setdefault(job, [outcome for outcome in jobs if outcome.function == job])
    return found


def _line(scope: str, measure: str, ours: Sequence[Outcome], theirs: Sequence[Outcome]) -> Line:
    unit, sample, statistic = MEASURES[measure]
    first, second = sample(ours), sample(theirs)
    return Line(
        scope,
        measure,
        unit,
        float(statistic(np.asarray(first))),
        float(statistic(np.asarray(second))),
        resampled(second, first, statistic),
    )


class Judged(msgspec.Struct):
    """Whether a condition holds, and the sentence that says so."""

    condition: str
    fails: bool
    text: str


class Condition(msgspec.Struct):
    """``[SCOPE:]MEASURE < NUMBER``: a bound on a ratio, second run over first."""

    text: str
    scope: str
    measure: str
    sign: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read a condition.

        Raises:
            UsageError: it is none; the message has the measures that there are.
        """
        match = CONDITION.fullmatch(text)
        measures = ", ".join(MEASURES)
        if match is None:
            raise UsageError(
                f"--fail-if {text!r}: write [SCOPE:]MEASURE < NUMBER, as in 'throughput < 0.95'; "
                f"measures: {measures}"
            )
        if match["measure"] not in MEASURES:
            raise UsageError(
                f"--fail-if {text!r}: there is no measure {match['measure']!r}; "
                f"measures: {measures}"
            )
        bound = float(match["number"]) / (100 if match["percent"] else 1)
        return cls(text, (match["scope"] or ALL).strip(), match["measure"], match["sign"], bound)

    def judge(self, found: Versus, sure: bool) -> Judged:
        """Whether it holds; with ``sure``, whether it does for the whole interval.

        Raises:
            UsageError: the runs do not have its scope in common.
        """
        line = found.line(self.scope, self.measure)
        if line.ratio is None:
            grown = line.second > 0 and self.sign in (">", ">=")
            return Judged(
                self.text, grown,
                f"{self.text}: the first run's {self.measure} is 0, the second's "
                f"{line.second:g} {line.unit}: {'holds' if grown else 'does not hold'}",
            )  # fmt: skip
        holds = COMPARE[self.sign]
        ratio = line.ratio
        low, high = ratio.low, ratio.high
        interval = "" if low is None or high is None else f" (95 % interval {low:.3f}–{high:.3f})"
        fails = holds(ratio.value, self.bound)
        note = ""
        if low is not None and high is not None:
            ends = [holds(low, self.bound), holds(high, self.bound)]
            if ends[0] != ends[1]:
                note = ", but the interval reaches over the bound"
            if sure:
                fails = all(ends)
        elif sure:
            fails = False
        word = "FAILS" if fails else "does not fail"
        return Judged(
            self.text, fails, f"{self.text}: the ratio is {ratio.value:.3f}{interval}{note}: {word}"
        )
