"""The list of faults: what each one does, and what is promised under it."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

if TYPE_CHECKING:
    from chaoslab.lab import Lab

Area = Literal["workers", "drop-in", "pool", "Valkey", "jobs", "fleet"]
# The modules; the table has the areas in their order above.
MODULES: Final = (
    "workers", "dropin", "pool", "server", "connections", "data", "jobs", "fleet",
)  # fmt: skip
Inject = Callable[["Lab"], Awaitable[None]]
ALL: Final[dict[str, Fault]] = {}


@dataclass(frozen=True)
class Fault:
    """One row of the table.

    ``deadline`` is how many seconds the jobs have to settle after the injection, ``limit`` how many
    it may take in all. ``recovery`` is the promised 99th percentile of the recovery, s. ``heavy``
    ones run alone. ``needs`` names a program, and the Debian package that has it.
    """

    name: str
    area: Area
    what: str
    promise: str
    inject: Inject
    deadline: float = 20.0
    limit: float = 60.0
    lease: str = "1s"
    recovery: float | None = None
    fsync: str | None = None
    settings: dict[str, str] = field(default_factory=dict)
    heavy: bool = False
    needs: str = ""
    keeps_promise: bool = True
    may_trace: bool = False


def fault(
    name: str, area: Area, what: str, promise: str, **rest: Any
) -> Callable[[Inject], Inject]:
    """Put a function that injects a fault on the list."""

    def add(inject: Inject) -> Inject:
        assert name not in ALL, f"two faults are named {name}"
        ALL[name] = Fault(name, area, what, promise, inject, **rest)
        return inject

    return add


def load() -> dict[str, Fault]:
    """All faults, in the order of the table."""
    for module in MODULES:
        importlib.import_module(f"chaoslab.faults.{module}")
    # One module may have imported another one before its turn.
    areas = get_args(Area)
    return dict(sorted(ALL.items(), key=lambda one: areas.index(one[1].area)))
