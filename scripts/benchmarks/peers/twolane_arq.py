"""The application that `benchmarks.peers.arq` runs under arq, run by ``twolane arq``."""

from __future__ import annotations

from benchmarks.peers import arq as theirs
from benchmarks.peers import become
from benchmarks.plan import Plan

PACKAGES = ("twolane", "arq")
QUIET = theirs.QUIET
Producer = theirs.Producer
__getattr__ = theirs.__getattr__  # WorkerSettings


def settings(plan: Plan) -> str:
    return (
        f"max_jobs={plan.slots}, no log lines; results kept for an hour, leases of 10 s with "
        "fencing; producer: as arq"
    )


def serve(plan: Plan) -> None:
    quiet = ("--custom-log-dict", f"{theirs.__name__}.QUIET")
    become("twolane", "arq", *quiet, f"{theirs.__name__}.WorkerSettings")
