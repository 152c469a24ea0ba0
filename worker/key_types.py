"""Says which of the shared keys some client has made to be of another type.

Each is looked at in a pipeline that is sent anyway: WRONGTYPE, the server's answer to the command
that meets such a key, does not name it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from redis.exceptions import ResponseError

from twolane import keys
from twolane.keys import Lane

log = logging.getLogger("twolane.worker")

NONE: Final = b"none"  # there is no such key


def is_wrong_type(error: object) -> bool:
    return isinstance(error, ResponseError) and str(error).startswith("WRONGTYPE")


def of_queue(queue: str) -> dict[str, tuple[str, str]]:
    """Shared keys of all that claim from a queue: what each is, and what fails where it is not."""
    return {
        queue: ("zset", "no job of this queue can be claimed or enqueued"),
        keys.ABORTS: ("zset", "no running job can be cancelled"),
    }


def of_lane(lane: str) -> dict[str, tuple[str, str]]:
    """The shared keys of a lane's workers."""
    queue = keys.QUEUES[cast(Lane, lane)]
    return of_queue(queue) | {
        keys.counters(queue): ("hash", "this queue's totals stand still"),
        keys.DEAD: ("zset", "jobs that fail are not among the dead letters"),
        keys.RUNS: ("zset", "new runs are not in the list of runs"),
        keys.WORKERS: ("zset", "nobody sees which workers there are"),
        keys.lane_workers(lane): ("zset", "nobody sees which workers of this lane there are"),
    }


class KeyTypes:
    """The types of ``expected`` keys; one that is wrong is told once, until it is right again."""

    def __init__(self, expected: Mapping[str, tuple[str, str]]) -> None:
        self._expected = expected
        self._told: set[str] = set()

    def ask(self, pipe: Any) -> None:
        """Add the look to a pipeline, which then has ``len(self)`` replies more."""
        for key in self._expected:
            pipe.type(key)

    def __len__(self) -> int:
        return len(self._expected)

    def answered(self, replies: Sequence[Any]) -> None:
        for (key, (expected, outcome)), found in zip(self._expected.items(), replies, strict=True):
            if not isinstance(found, bytes) or found in (NONE, expected.encode()):
                self._told.discard(key)
            elif key not in self._told:
                self._told.add(key)
                log.error(
                    "the key %s is of the type %s, where a %s belongs: %s. Find out who wrote it, "
                    "and delete it (DEL %s); the worker goes on by itself then",
                    key, found.decode(), expected, outcome, key,
                )  # fmt: skip
