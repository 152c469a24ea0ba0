"""Two runs side by side, and conditions on their ratios."""

from __future__ import annotations

import random

import pytest

from producer import versus
from producer.collect import Collected
from producer.versus import MEASURES, Condition
from tests.producer.making import collected, made
from twolane.errors import JobsFailed, TwolaneError, UsageError


def run(
    name: str, pace: float = 1.0, jobs: int = 400, seed: int = 1, **changes: object
) -> Collected:
    """A run whose jobs end evenly; ``pace`` stretches all its times."""
    draw = random.Random(seed)
    return collected(
        name,
        [
            made(
                number, at=pace * number / 100, id=f"{name}-{number:07d}",
                wait_ms=pace * number * 10, run_seconds=pace * draw.uniform(0.04, 0.06),
                cpu_seconds=0.01, **changes,
            )
            for number in range(jobs)
        ],
    )  # fmt: skip


def judged(text: str, found: versus.Versus, sure: bool = False) -> versus.Judged:
    return Condition.parse(text).judge(found, sure)


def test_a_run_that_is_half_as_fast_has_half_the_throughput_and_twice_the_times() -> None:
    found = versus.compare(run("before"), run("after", pace=2.0, seed=2))

    ratio = found.line("all", "throughput").ratio
    assert ratio is not None
    assert ratio.value == pytest.approx(0.5, rel=0.05)
    assert ratio.high is not None
    assert ratio.high < 0.9
    run_p50 = found.line("all", "run.p50").ratio
    assert run_p50 is not None
    assert run_p50.value == pytest.approx(2, rel=0.05)
    assert not run_p50.is_noise
    cpu = found.line("all", "cpu").ratio
    assert cpu is not None
    assert cpu.is_noise


def test_two_runs_alike_differ_by_noise_alone() -> None:
    found = versus.compare(run("before"), run("after", seed=2))

    assert all(one.ratio is None or one.ratio.is_noise for one in found.lines)


def test_throughput_is_that_of_the_comparison_table() -> None:
    found = versus.compare(run("before"), run("after"))

    line = found.line("all", "throughput")
    # 400 jobs from the first due to the last ended, some 4 s.
    assert line.first == pytest.approx(400 / 4.04, rel=0.01)


def test_each_lane_and_each_job_has_a_line_where_there_are_several() -> None:
    def both(name: str) -> Collected:
        found = run(name)
        found.add(run(f"{name}-2", lane="cpu", function="primes").outcomes)
        return found

    found = versus.compare(both("before"), both("after"))

    assert found.scopes == ["all", "cpu", "io", "primes", "wait"]
    assert len(found.lines) == 5 * len(MEASURES)


def test_only_jobs_that_succeeded_are_compared_and_the_others_are_counted() -> None:
    after = run("after")
    after.add([made(900, success=False), made(901, success=False, cancelled=True)])
    after.run.total = 405

    found = versus.compare(run("before"), after)

    assert found.line("all", "throughput").ratio is not None
    assert found.sides[0] == versus.Side("before", 400, 400, 0, 0, 0)
    assert found.sides[1] == versus.Side("after", 405, 400, 1, 1, 3)
    assert versus.tell(found) == [
        "after: 1 failed, 1 cancelled, 3 to go of 405 jobs; the figures are of the 400 that "
        "succeeded"
    ]


def test_a_run_of_which_more_jobs_fail_than_before_fails_where_that_is_asked() -> None:
    """Those that succeeded may have been as fast as ever."""
    before, after = run("before"), run("after", seed=2)
    after.add([made(number, success=False, id=f"failed-{number}") for number in range(100)])
    after.add([made(900, success=False, cancelled=True)])
    found = versus.compare(before, after)

    line = found.line("all", "failed")
    assert (line.first, line.second, line.ratio) == (0, 20, None)
    assert judged("failed > 1", found).fails
    assert not judged("failed > 1", versus.compare(after, before)).fails
    twice = versus.compare(after, after).line("all", "failed").ratio
    assert twice is not None
    assert twice.value == 1


def test_two_runs_whose_jobs_all_succeeded_have_nothing_said_of_them() -> None:
    assert versus.tell(versus.compare(run("before"), run("after"))) == []


def test_a_run_whose_jobs_all_failed_is_told_as_failed_jobs() -> None:
    """It was called a wrong use, exit code 2."""
    broken = collected("broken", [made(1, success=False)])

    with pytest.raises(JobsFailed, match=r"run 'broken' has no job that succeeded.*1 failed of 1"):
        versus.compare(run("before"), broken)
    with pytest.raises(JobsFailed, match="'broken'"):
        versus.compare(broken, run("before"))


def test_a_run_of_which_no_job_has_ended_says_how_to_wait() -> None:
    with pytest.raises(TwolaneError, match="twolane runs show new --wait") as caught:
        versus.compare(run("before"), collected("new", []))

    assert caught.value.exit_code == 1


def test_two_runs_with_no_job_in_common_are_refused() -> None:
    """They were compared all the same, fetches with prime counts."""
    other = run("after", function="primes")

    with pytest.raises(UsageError, match="no job in common: 'before' has wait; 'after' has primes"):
        versus.compare(run("before"), other)


def test_what_one_run_alone_has_is_said_and_is_not_taken_for_the_others() -> None:
    """One job that both had stood for all, though the second run had another one besides."""
    after = run("after")
    after.add(run("more", pace=9, function="primes").outcomes)

    found = versus.compare(run("before"), after)

    assert found.scopes == ["all", "wait"]
    assert versus.tell(found) == [
        "after alone has primes: the lines of 'all' compare what is not alike"
    ]


@pytest.mark.parametrize(
    ("text", "fails"),
    [
        ("throughput < 0.95", True),
        ("throughput<95%", True),
        ("throughput < 0.3", False),
        ("run.p95 > 1.2", True),
        ("all:run.p50 >= 3", False),
        ("cpu <= 1", True),
    ],
)
def test_conditions_are_on_the_ratio_of_the_second_over_the_first(text: str, fails: bool) -> None:
    found = versus.compare(run("before"), run("after", pace=2.0, seed=2))

    assert judged(text, found).fails is fails


def test_sure_wants_the_whole_interval_beyond() -> None:
    found = versus.compare(run("before"), run("after", seed=5))
    ratio = found.line("all", "run.p50").ratio
    assert ratio is not None
    assert ratio.low is not None
    assert ratio.high is not None
    bound = (ratio.value + ratio.high) / 2

    plain = judged(f"run.p50 < {bound:.9f}", found)
    sure = judged(f"run.p50 < {bound:.9f}", found, sure=True)

    assert plain.fails
    assert "but the interval reaches over the bound: FAILS" in plain.text
    assert not sure.fails
    assert judged(f"run.p50 < {ratio.high + 0.01:.9f}", found, sure=True).fails


@pytest.mark.parametrize(
    "text",
    ["", "throughput", "throughput = 1", "throughput < x", "throughput < 1 or True", "< 0.9",
     "__import__('os') < 1", "throughput < -1", "throughput < 1e3"],
)  # fmt: skip
def test_what_is_no_condition_is_refused_with_the_measures(text: str) -> None:
    with pytest.raises(UsageError, match=r"measures: throughput, wait\.p50"):
        Condition.parse(text)


def test_an_unknown_measure_or_scope_is_named() -> None:
    with pytest.raises(UsageError, match="there is no measure 'speed'; measures: throughput"):
        Condition.parse("speed < 1")
    found = versus.compare(run("before"), run("after"))
    with pytest.raises(UsageError, match="'gpu' is not in both runs; they share: all"):
        judged("gpu:throughput < 1", found)


def test_a_first_figure_of_nothing_has_no_ratio() -> None:
    none = collected("none", [made(number, at=number / 10) for number in range(20)])
    some = collected(
        "some", [made(number, at=number / 10, cpu_seconds=0.1) for number in range(20)]
    )
    found = versus.compare(none, some)

    assert found.line("all", "cpu").ratio is None
    assert judged("cpu > 2", found).fails
    assert not judged("cpu < 2", found).fails
