"""The record of a job that has settled: arq's result dictionary, with our measurements added."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from twolane import wire
from twolane.errors import RemoteError

# A result up to this size rides on the run's stream whole, so that collecting it costs no second
# look-up; 2 KiB keeps the stream of a million jobs within what its results take anyway.
INLINE_BYTES: Final = 2048


class Outcome(
    msgspec.Struct,
    omit_defaults=True,
    rename={
        "try_": "t", "function": "f", "args": "a", "kwargs": "k", "enqueued_ms": "et",
        "success": "s", "result": "r", "started_ms": "st", "finished_ms": "ft", "queue": "q",
        "worker": "w", "run_seconds": "d", "wait_ms": "wait", "cpu_seconds": "cpu",
        "hold_seconds": "hold", "memory_bytes": "mem", "blocked_at": "at",
    },
):  # fmt: skip
    """One settled job; the first eleven fields are arq's.

    Times in ms are the server's clock. ``wait_ms`` is from when the job was due to its claim.
    ``hold_seconds`` is the longest uninterrupted hold of the event loop (IO lane), ``blocked_at``
    the place in the code where that was seen, ``memory_bytes`` the peak of the process while the
    job ran (CPU lane). ``partial`` says that arguments and result were left out because of their
    size; the result's key has them.
    """

    try_: int | None
    function: str
    args: Any
    kwargs: Any
    enqueued_ms: int
    success: bool
    result: Any
    started_ms: int
    finished_ms: int
    queue: str
    id: str
    run: str | None = None
    lane: str = ""
    worker: str = ""
    wait_ms: float = 0.0
    run_seconds: float = 0.0
    cpu_seconds: float = 0.0
    hold_seconds: float = 0.0
    memory_bytes: int = 0
    blocked_at: str | None = None
    cancelled: bool = False
    partial: bool = False

    @property
    def error(self) -> RemoteError | None:
        """What the job failed with; None where it succeeded or was cancelled."""
        return self.result if isinstance(self.result, RemoteError) else None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Outcome, ext_hook=wire.decode_ext)
EMPTY_LIST: Final = msgspec.Raw(b"\x90")
EMPTY_MAP: Final = msgspec.Raw(b"\x80")
NIL: Final = msgspec.Raw(b"\xc0")


def encode(outcome: Outcome) -> tuple[bytes, bytes]:
    """The bytes for the result's key, and for the run's stream (empty where they are the same).

    ``args``, ``kwargs`` and ``result`` must be plain or :class:`msgspec.Raw`.
    """
    whole = _encoder.encode(outcome)
    if len(whole) <= INLINE_BYTES:
        return whole, b""
    slim = msgspec.structs.replace(outcome, args=EMPTY_LIST, kwargs=EMPTY_MAP, partial=True)
    slim.function = wire.shortened(outcome.function)
    if outcome.success:
        slim.result = NIL
    return whole, _encoder.encode(slim)


def decode(data: bytes) -> Outcome:
    """Decode a recorded result, ours or a stock arq worker's with our serializer.

    Raises:
        UndecodablePayload: the bytes are no result.
    """
    return wire.guarded(_decoder, data, "not a job's result")
