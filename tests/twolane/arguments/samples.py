"""Types and functions that the tests of arguments share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

from hypothesis import settings
from hypothesis import strategies as st

from twolane.arguments import Signature
from twolane.registry import Job

stable = settings(derandomize=True, deadline=None, database=None)


@dataclasses.dataclass
class Point:
    x: int
    y: float = 1.0


class Opaque:
    pass


def signature(function: Callable[..., Any]) -> Signature:
    return Signature(Job(function.__name__, function, "io"))


def work(low: int, high: int, method: Literal["sieve", "trial"] = "sieve") -> None: ...


points = st.builds(Point, x=st.integers(-(2**63), 2**63 - 1), y=st.floats(allow_nan=False))
