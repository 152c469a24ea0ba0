"""What the tests of jobs and registries share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from twolane.registry import MARK, Job, job


def computes() -> int:
    return 1


async def waits() -> int:
    return 1


def described(function: Callable[..., Any]) -> Job:
    found = getattr(function, MARK)
    assert isinstance(found, Job)
    return found


def defined(function: Callable[..., Any] = waits, **options: Any) -> Job:
    """What @job makes of a function with those options."""
    copy = functools.partial(job(**options))
    return described(copy(_copy(function)))


def _copy(function: Any) -> Any:
    made = type(function)(
        function.__code__, globals(), function.__name__, function.__defaults__, function.__closure__
    )
    made.__module__ = function.__module__
    made.__qualname__ = function.__qualname__
    return made
