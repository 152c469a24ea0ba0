"""Says by a file whether a worker is well, for an orchestrator to probe.

The worker touches the file after each heartbeat that its broker took, if its leases are being
renewed and its claims and results answered as well: so the file grows old within seconds when its
event loop, its renewal thread or one of its connections is dead. ``python -m worker.health FILE``
exits 0 while it is young.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from worker.exchange import Exchange
    from worker.watch import Watch

log = logging.getLogger("twolane.worker")
# Heartbeats come once a second; a busy machine may be late by a few.
MAX_AGE_SECONDS: Final = 5.0


def toucher(file: Path | None, watch: Watch, exchange: Exchange) -> Callable[[], None]:
    """What to call after each heartbeat."""

    said = False

    def touch() -> None:
        nonlocal said
        if file is None or exchange.is_failing or not watch.is_renewing():
            return
        try:
            file.touch()
        except OSError as error:  # the file's trouble is none of the broker's, nor of the jobs'
            if not said:
                log.error("cannot touch the health file %s: %s", file, error.strerror)
            said = True
        else:
            said = False

    return touch


def check(file: Path) -> str | None:
    """What is wrong, or None while the worker is well."""
    try:
        age = time.time() - file.stat().st_mtime
    except OSError as error:
        return f"{file}: {error.strerror}; is the worker started with --health-file {file}?"
    if age > MAX_AGE_SECONDS:
        return f"the worker has not been well for {age:.0f} s (its event loop, leases or broker)"
    return None


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m worker.health FILE")
    sys.exit(check(Path(sys.argv[1])))
