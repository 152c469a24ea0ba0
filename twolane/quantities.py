"""The kinds of value that options take beyond click's own: durations and sizes."""

from __future__ import annotations

import math
import re
from typing import Any, Final

import click

SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
# Decimal prefixes are powers of 1000, binary ones of 1024: IEC 80000-13. In lower case, as the
# case of a unit is not told apart.
BYTES: Final = {
    "b": 1,
    "k": 1000,
    "kb": 1000,
    "kib": 1024,
    "m": 1000**2,
    "mb": 1000**2,
    "mib": 1024**2,
    "g": 1000**3,
    "gb": 1000**3,
    "gib": 1024**3,
}
# Both are arbitrary, and lie within what clocks, brokers and machines can count.
LONGEST: Final = 10 * 365 * 24 * 3600  # s
LARGEST: Final = 1024**4  # bytes
_QUANTITY: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+) ?([A-Za-zµ]*)", re.ASCII)


# ParamType takes no parameters at run time in click 8.2, and demands them of mypy in 8.5.
class Duration(click.ParamType):  # type: ignore[type-arg]
    """Seconds as a float, from "50ms", "1.5s", "2m", "1h"; a plain number is seconds.

    ``least`` is the shortest that is allowed, in seconds; text is what a default should be, so
    that help shows it with its unit.
    """

    name = "duration"

    def __init__(self, least: float = 0.0) -> None:
        self.least = least

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        seconds = float(value) if isinstance(value, int | float) else self._read(value, param, ctx)
        if seconds < self.least:
            self.fail(f"{value!r} is less than {self.least:g}s, the least", param, ctx)
        if seconds > LONGEST:
            self.fail(f"{value!r} is more than {LONGEST // 3600}h, the most", param, ctx)
        return seconds

    def _read(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = _QUANTITY.fullmatch(text.strip())
        factor = SECONDS.get((match[2] or "s").replace("µ", "u")) if match else None
        if match is None or factor is None:
            self.fail(
                f"{text!r} is not a duration; write 50ms, 1.5s, 2m, 1h, or a number of seconds",
                param,
                ctx,
            )
        # Divided rather than multiplied where that is exact: 50ms is 0.05, not 0.05000000000000001.
        number = float(match[1])
        return number / round(1 / factor) if factor < 1 else number * factor


class Number(click.FloatRange):
    """A float within bounds; unlike click's own it has no place for "nan", which no bound stops."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        found = float(super().convert(value, param, ctx))
        if math.isnan(found):
            self.fail(f"{value!r} is not a number", param, ctx)
        return found


class Size(click.ParamType):  # type: ignore[type-arg]  # as Duration's
    """Bytes as an int, from "512", "1kB" (1000), "1KiB" (1024), "10MiB"; case does not matter."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = _QUANTITY.fullmatch(value.strip())
        factor = BYTES.get((match[2] or "b").lower()) if match else None
        if match is None or factor is None:
            self.fail(
                f"{value!r} is not a size; write 512, 1kB (1000 bytes), 1KiB (1024 bytes) or 10MiB",
                param,
                ctx,
            )
        size = float(match[1]) * factor
        if size > LARGEST:
            self.fail(f"{value!r} is more than {LARGEST // 1024**3}GiB, the most", param, ctx)
        return round(size)


DURATION: Final = Duration()
SIZE: Final = Size()
