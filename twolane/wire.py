"""The bytes of payloads, results and errors: MessagePack, and nothing that could run code.

:func:`dumps` and :func:`loads` fit arq's ``job_serializer`` and ``job_deserializer``, so stock arq
clients and workers share a queue with this project. An exception travels as extension type 1 with
``type``, ``message`` and ``traceback`` as text, and arrives as a :class:`RemoteError` (a
cancellation as :class:`asyncio.CancelledError`, which arq's ``Job.abort`` looks for).

What has no form here: integers beyond 64 bits, and objects other than the ones that msgspec knows
(numbers, text, bytes, lists, tuples, sets, mappings, dates, UUIDs, decimals, enums, dataclasses,
msgspec structs). Tuples and sets arrive as lists, unless the receiving parameter's annotation says
otherwise.
"""

from __future__ import annotations

import asyncio
import traceback
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import msgspec

from twolane.errors import NotEncodable, RemoteError, TwolaneError, UndecodablePayload

T = TypeVar("T")

ERROR_EXT: Final = 1
# 16 MiB is arbitrary: far above any argument list, far below what would stall a worker's loop.
MAX_PAYLOAD_BYTES: Final = 16 * 1024 * 1024
MAX_RESULT_BYTES: Final = 16 * 1024 * 1024
# What an error may take of a result: a traceback of a deep recursion is otherwise megabytes.
MAX_NAME_CHARS: Final = 200
MAX_MESSAGE_CHARS: Final = 4_000
MAX_TRACEBACK_CHARS: Final = 16_000
MAX_FRAMES: Final = 30
MAX_CAUSES: Final = 10


class Payload(
    msgspec.Struct,
    rename={"try_": "t", "function": "f", "args": "a", "kwargs": "k", "enqueued_ms": "et"},
):
    """What a producer asks for: arq's dictionary, with ``run`` as an extra key that arq ignores.

    ``args`` and ``kwargs`` stay encoded: they are decoded where the job runs, and go into its
    result as they came.
    """

    function: str
    args: msgspec.Raw
    kwargs: msgspec.Raw
    enqueued_ms: int
    try_: int | None = None
    run: str | None = None

    @property
    def enqueued(self) -> datetime:
        """When it was enqueued, as its producer's clock said; 1970 where that is no date."""
        try:
            return datetime.fromtimestamp(self.enqueued_ms / 1000, tz=UTC)
        except (ValueError, OverflowError, OSError):
            return datetime.fromtimestamp(0, tz=UTC)


class ErrorRecord(msgspec.Struct):
    type: str
    message: str
    traceback: str = ""


def error_record(error: BaseException) -> ErrorRecord:
    """What is kept of an exception: its class name, its message and its traceback as text."""
    try:
        if isinstance(error, RemoteError):
            name, message, trace = error.type, error.message, error.traceback
        else:
            name, message, trace = _name(error), _message(error), _trace(error)
        return ErrorRecord(
            _clean(name, MAX_NAME_CHARS),
            _clean(message, MAX_MESSAGE_CHARS),
            _clean(trace, MAX_TRACEBACK_CHARS),
        )
    except BaseException as broken:  # a job's own exception class may do anything anywhere
        return ErrorRecord(_name(error), f"<recording it raised {_name(broken)}>")


def _name(error: BaseException) -> str:
    """The name of an exception's class, also where a metaclass made that attribute its own."""
    name: str = type.__dict__["__name__"].__get__(type(error))
    return name


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as broken:  # a job's own exception class may do anything here
        return f"<its __str__ raised {_name(broken)}>"


def _trace(error: BaseException) -> str:
    """The traceback of an exception and of what caused it, the first cause first.

    Made of the frames alone: ``traceback.format_exception`` trusts attributes that a job's own
    exception may set to anything (a SyntaxError's ``offset`` makes it as many spaces).
    """
    if isinstance(error, TwolaneError) and error.__traceback__ is None:
        return ""  # made by us to record an event, never raised: there is nothing to trace
    chain = [error]
    seen = {id(error)}
    links = [""]
    while True:
        last = chain[-1]
        cause = last.__cause__ or (None if last.__suppress_context__ else last.__context__)
        if cause is None or id(cause) in seen:
            break
        seen.add(id(cause))
        links.append("\nwhich was the cause of:\n\n" if last.__cause__ else "\nand then:\n\n")
        chain.append(cause)
    told = [_frames(one) + link for one, link in zip(chain, links, strict=True)]
    if len(told) > MAX_CAUSES:
        left_out = f"\n… {len(told) - MAX_CAUSES} errors left out …\n"
        told[MAX_CAUSES // 2 : -MAX_CAUSES // 2] = [left_out]
    return "".join(reversed(told))


def _frames(error: BaseException, depth: int = 0) -> str:
    """One exception: its frames, its name and message, and a group's members."""
    frames = "".join(traceback.format_tb(error.__traceback__, limit=-MAX_FRAMES))
    head = f"Traceback (most recent call last):\n{frames}" if frames else ""
    text = f"{head}{_name(error)}: {_clean(_message(error), MAX_MESSAGE_CHARS)}\n"
    if isinstance(error, BaseExceptionGroup) and depth < MAX_CAUSES:
        for member in error.exceptions[:MAX_CAUSES]:
            text += "".join(f"  | {line}\n" for line in _frames(member, depth + 1).splitlines())
    return text


def _clean(text: str, limit: int) -> str:
    """Text that any reader can encode: no lone surrogates, the middle cut where it is long."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


def shortened(name: str) -> str:
    """A function's name as lists show it: a client of one's own may have sent megabytes."""
    return name if len(name) <= MAX_NAME_CHARS else name[: MAX_NAME_CHARS - 1] + "…"


def _encode_other(value: Any) -> Any:
    if isinstance(value, BaseException):
        return msgspec.msgpack.Ext(ERROR_EXT, _plain.encode(error_record(value)))
    raise NotEncodable(
        f"a value of type {type(value).__qualname__} cannot be encoded; "
        "pass numbers, text, bytes, lists or mappings"
    )


def decode_ext(code: int, data: memoryview) -> Any:
    """The value of an extension type, for decoders of other types than this module's."""
    if code != ERROR_EXT:
        raise UndecodablePayload(f"unknown extension type {code}")
    record = _errors.decode(data)
    if record.type == "CancelledError":
        return asyncio.CancelledError(record.message)
    return RemoteError(record.type, record.message, record.traceback)


_plain = msgspec.msgpack.Encoder()
_PLAIN: Final = frozenset({bool, int, float, str, bytes})
_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_other)
_errors = msgspec.msgpack.Decoder(ErrorRecord)
_decoder = msgspec.msgpack.Decoder(ext_hook=decode_ext)
_payloads = msgspec.msgpack.Decoder(Payload, ext_hook=decode_ext)


def dumps(value: Any) -> bytes:
    """Encode a value.

    Raises:
        NotEncodable: it, or something within it, has no form on the wire.
    """
    try:
        return _encoder.encode(value)
    except NotEncodable:
        raise
    except OverflowError:
        raise NotEncodable("an integer beyond 64 bits cannot be encoded; pass it as text") from None
    except RecursionError:
        raise NotEncodable("a value is nested too deeply, or within itself") from None
    except (TypeError, ValueError) as error:
        raise NotEncodable(f"a value cannot be encoded: {error}") from error
    except Exception as error:  # encoding runs code of the value's own: a time zone's, for one
        told = f"{_name(error)}: {_message(error)}"
        raise NotEncodable(f"a value cannot be encoded: {told}") from error


def dumps_readable(value: Any) -> bytes:
    """Encode a value that others have to read: a job's result.

    msgspec encodes some that it does not decode: an object as the key of a mapping, extension types
    that are nobody's, bytes that are said to be MessagePack. Who follows a run would stumble over
    one of them, and get none of the run's outcomes.

    Raises:
        NotEncodable: it, or something within it, has no form on the wire or cannot be read again.
    """
    data = dumps(value)
    if type(value) in _PLAIN:
        return data
    try:
        _decoder.decode(data)
    except Exception as error:
        told = f"{_name(error)}: {_message(error)}"
        raise NotEncodable(f"a value could not be decoded again: {told}") from None
    return data


def dumps_error(record: ErrorRecord) -> bytes:
    """Encode a recorded error as :func:`dumps` encodes an exception."""
    return _plain.encode(msgspec.msgpack.Ext(ERROR_EXT, _plain.encode(record)))


def loads(data: bytes | memoryview) -> Any:
    """Decode what :func:`dumps` made.

    Raises:
        UndecodablePayload: the bytes are something else, or are cut short.
    """
    return guarded(_decoder, data, "not MessagePack")


def load_payload(data: bytes) -> Payload:
    """Decode a job's payload.

    Raises:
        UndecodablePayload: the bytes are no MessagePack, or no job.
    """
    return guarded(_payloads, data, "not a job's payload")


def guarded(decoder: msgspec.msgpack.Decoder[T], data: bytes | memoryview, what: str) -> T:
    """Decode with ``decoder``; anything wrong with the bytes is an UndecodablePayload."""
    try:
        return decoder.decode(data)
    except UndecodablePayload:
        raise
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
        raise UndecodablePayload(f"{what}: {error}") from None


def loads_arguments(payload: Payload) -> tuple[list[Any], dict[str, Any]]:
    """Decode what a job is called with.

    Raises:
        UndecodablePayload: they are not a list and a mapping with names for keys.
    """
    args, kwargs = payload.args, payload.kwargs
    try:
        return (
            [] if args == _NO_ARGS else _lists.decode(args),
            {} if kwargs == _NO_KWARGS else _mappings.decode(kwargs),
        )
    except UndecodablePayload:
        raise
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
        raise UndecodablePayload(f"not a job's arguments: {error}") from None


def is_readable(payload: Payload) -> bool:
    """Whether anybody can decode the arguments; a record with others could not be read itself."""
    try:
        loads(payload.args), loads(payload.kwargs)
    except UndecodablePayload:
        return False
    return True


_NO_ARGS, _NO_KWARGS = b"\x90", b"\x80"
_lists = msgspec.msgpack.Decoder(list[Any], ext_hook=decode_ext)
_mappings = msgspec.msgpack.Decoder(dict[str, Any], ext_hook=decode_ext)
