"""A report of every kind, from what was made by hand."""

from __future__ import annotations

from producer import scaling, sizing
from producer.models import findings
from producer.report import comparison, load, run
from producer.report import scaling as scale_page
from tests.producer.laboratory import MACHINE, fetches, loaded, points_on, primes_on
from tests.producer.making import collected, made
from twolane.outcome import Outcome

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m"


def outcomes(job: str = "fetch") -> list[Outcome]:
    waiting = [
        made(number, at=number / 50, function=job, wait_ms=number, run_seconds=0.05 + number / 1e4,
             cpu_seconds=0.001)
        for number in range(150)
    ]  # fmt: skip
    computing = [
        made(1000 + number, at=number / 10, function="count_primes", lane="cpu", wait_ms=number * 9,
             run_seconds=0.3, cpu_seconds=0.29)
        for number in range(30)
    ]  # fmt: skip
    return waiting + computing


def run_page(job: str = "fetch") -> str:
    found = collected("made-1", outcomes(job))
    return run.page(found, ["It waited."], MACHINE, {"kind": "run"}, [("ValueError", 3, job)])


def compare_page() -> str:
    tables = [fetches(), primes_on(4)]
    seen = [one for table in tables for one in findings.tell(table)]
    return comparison.page(tables, seen, MACHINE, {"kind": "compare"})


def scaling_page() -> str:
    points = points_on(4, noise=0.02)
    found = scaling.fitted(points)
    seen = scaling.tell(found, points, "cpu")
    data = {"kind": "scale", "fit": scaling.as_data(found)}
    return scale_page.page(points, found, "count_primes", "cpu", seen, ["by hand"], MACHINE, data)


def load_page() -> str:
    one = loaded()
    check = sizing.check(one)
    found = outcomes()[:150]
    data = {"kind": "load", "job": "fetch", "conditions": ["1 io worker"]}
    waits = [number / 2000 for number in range(150)]
    return load.page(one, check, found, waits, sizing.tell_load(one, check), MACHINE, data)


PAGES = {"run": run_page, "compare": compare_page, "scale": scaling_page, "load": load_page}
