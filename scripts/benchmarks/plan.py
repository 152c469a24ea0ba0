"""What one contestant is told for one measurement, carried by an environment variable."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import Literal

VARIABLE = "TWOLANE_BENCH_PLAN"

Kind = Literal["noop", "wait", "compute"]
Options = dict[str, str | int | float | bool]


@dataclass(frozen=True)
class Plan:
    """One contestant's part in one measurement.

    ``slots`` is how many jobs one worker runs at once: coroutines, threads, or processes where the
    jobs compute. ``compute`` tells which of the two it is. ``board`` is the file of `board.Board`.
    """

    broker: str
    slots: int
    compute: bool = False
    board: str = ""
    options: Options = field(default_factory=dict)

    def dump(self) -> str:
        return json.dumps(asdict(self))


def current() -> Plan:
    """The plan of this process, which it inherited."""
    return Plan(**json.loads(os.environ[VARIABLE]))
