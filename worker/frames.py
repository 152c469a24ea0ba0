"""The frames between a worker and one of its processes: a fixed header, then a body.

At most one request is under way on a socket, so a frame needs no number. All of it is made of
lengths and MessagePack: reading a frame cannot run code, on either side.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

# Length of the job's name, length of its arguments; the name and the arguments follow.
REQUEST: Final = Struct("<IQ")

# Kind, whether the process asks to be replaced, run seconds, CPU seconds, peak memory in bytes,
# length of the body; the body follows.
ANSWER: Final = Struct("<B?ddQQ")

READY: Final = 0  # the jobs are loaded; no body
BROKEN: Final = 1  # the jobs cannot be loaded; the body is an ErrorRecord
RESULT: Final = 2  # the body is the return value's encoding
ERROR: Final = 3  # the body is an ErrorRecord

# Arbitrary: above what wire.error_record keeps of an error (20,000 characters).
MAX_ERROR_BYTES: Final = 1024 * 1024

# Up to here a header and its body are joined and written at once; above, copying costs more than
# a second call.
JOINED_BYTES: Final = 64 * 1024

Header = tuple[int, bool, float, float, int, int]


class FrameError(Exception):
    """What arrived is no answer: too long, or more than one."""


class AnswerReader:
    """Puts answers together from what a socket gives, copying a large body once."""

    __slots__ = ("_header", "_max_result_bytes", "_missing", "_parts", "_stub")

    def __init__(self, max_result_bytes: int) -> None:
        self._max_result_bytes = max_result_bytes
        self._stub = b""
        self._header: Header | None = None
        self._parts: list[bytes] = []
        self._missing = 0

    def feed(self, data: bytes) -> tuple[Header, bytes] | None:
        """Take what was read; an answer's header and body if that completes it.

        Raises:
            FrameError: there is more of it than a process may send.
        """
        header = self._header
        if header is None:
            if self._stub:
                data = self._stub + data
            if len(data) < ANSWER.size:
                self._stub = data
                return None
            self._stub = b""
            header = ANSWER.unpack_from(data)
            body = data[ANSWER.size :]
            missing = header[5] - len(body)
            if missing > 0:
                self._expect(header, body, missing)
                return None
        else:
            self._parts.append(data)
            self._missing = missing = self._missing - len(data)
            if missing > 0:
                return None
            body = b"".join(self._parts)
            self._parts.clear()
            self._header = None
        if missing < 0:
            raise FrameError(f"{-missing:,} bytes after the end of an answer")
        return header, body

    def _expect(self, header: Header, body: bytes, missing: int) -> None:
        kind, length = header[0], header[5]
        limit = self._max_result_bytes if kind == RESULT else MAX_ERROR_BYTES
        if length > limit:
            raise FrameError(f"an answer of {length:,} bytes; the limit is {limit:,}")
        self._header, self._missing = header, missing
        self._parts.append(body)
